# Build: dependencies in a layer of their own, so that a change of the sources does not build them again.
FROM rust:1.95-slim-bookworm AS build
ENV CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=debuginfo
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY actors/Cargo.toml actors/
# Empty crates with the real dependencies. Tests and benchmarks named in the manifests are not here yet, so they are cut.
RUN mkdir -p src actors/src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs actors/src/lib.rs \
    && for manifest in Cargo.toml actors/Cargo.toml; do \
         awk '/^\[/ { cut = ($0 ~ /^\[\[(test|bench|example)\]\]/) } !cut' "$manifest" > manifest.tmp \
         && mv manifest.tmp "$manifest" || exit 1; \
       done \
    && cargo build --release --locked \
    && cargo clean --release -p event-sourcing-cqrs -p event-sourcing-actors
COPY . .
# The folder for data belongs to the user who runs the program, and to nobody else.
RUN cargo build --release --locked --bin event-sourcing-cqrs \
    && mkdir -p /image/app/data \
    && cp target/release/event-sourcing-cqrs /image/app/ \
    && cp -r config /image/app/

# Run: the C library, certificates, one binary and its settings; no shell, no package manager, and a user who owns the data.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="event-sourcing-cqrs" \
      org.opencontainers.image.description="An event-sourced application server on SQLite or PostgreSQL" \
      org.opencontainers.image.source="https://github.com/event-sourcing-cqrs/event-sourcing-cqrs" \
      org.opencontainers.image.licenses="MIT"
WORKDIR /app
COPY --from=build /image/app/event-sourcing-cqrs /usr/local/bin/event-sourcing-cqrs
COPY --from=build /image/app/config /app/config
COPY --from=build --chown=65532:65532 /image/app/data /app/data
# Load balancers need some seconds to notice that a replica leaves. Grace, drain, the end of the store and the last spans
# take at most 5 + 20 + 4 + 2 s: whoever stops the container must wait longer than that.
ENV BIND_ADDRESS=0.0.0.0:8000 ES__HTTP__SHUTDOWN_GRACE_MS=5000
# The only place that is written: the root file system may be read-only.
VOLUME /app/data
EXPOSE 8000
USER 65532:65532
STOPSIGNAL SIGTERM
# Ready or not, as the program itself tells; the server waits up to a minute for its database.
HEALTHCHECK --interval=10s --timeout=5s --start-period=70s --retries=3 CMD ["/usr/local/bin/event-sourcing-cqrs", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/event-sourcing-cqrs"]
CMD ["serve"]
