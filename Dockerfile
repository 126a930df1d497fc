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
RUN cargo build --release --locked --bin event-sourcing-cqrs

# Run: one binary, its settings, a folder for data, and a user who owns nothing else.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 app \
    && useradd --system --uid 10001 --gid app --home-dir /app --shell /usr/sbin/nologin app \
    && mkdir -p /app/data \
    && chown app:app /app/data
WORKDIR /app
COPY --from=build /src/target/release/event-sourcing-cqrs /usr/local/bin/
COPY config config
# Load balancers need some seconds to notice that a replica leaves; 5 s + 20 s of draining fit into Kubernetes' 30 s.
ENV BIND_ADDRESS=0.0.0.0:8000 ES__HTTP__SHUTDOWN_GRACE_MS=5000
VOLUME /app/data
EXPOSE 8000
USER 10001:10001
# The server waits up to a minute for its database.
HEALTHCHECK --interval=10s --timeout=5s --start-period=70s --retries=3 CMD ["event-sourcing-cqrs", "healthcheck"]
ENTRYPOINT ["event-sourcing-cqrs"]
CMD ["serve"]
