#!/usr/bin/env bash
# Lets schemathesis try the whole API against the real program, on SQLite and on a private PostgreSQL, all phases.
#
#   tests/schemathesis.sh [sqlite|postgres]...     both unless named; exit code 0 when nothing was found
#   MAX_EXAMPLES=200                               cases per operation and phase of fuzzing
#   PROGRAM=target/release/event-sourcing-cqrs     built if absent
#
# Needs python3 with venv, and for PostgreSQL its server programs. schemathesis comes by pip into a folder of its own,
# which is kept in SCHEMATHESIS_VENV if that is set.
set -euo pipefail
cd "$(dirname "$0")/.."

settings=$PWD/tests/schemathesis.toml
work=$(mktemp -d)
venv=${SCHEMATHESIS_VENV:-$work/venv}
reports=${REPORTS:-$work/reports}
port=${PORT:-18931}
server= cluster=

finish() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; } || true
  [ -z "$cluster" ] || as_postgres "$(postgres_program pg_ctl)" -D "$cluster" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT

postgres_program() {
  command -v "$1" || ls -d /usr/lib/postgresql/*/bin/"$1" | sort -V | tail -1
}

# PostgreSQL does not run as root.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

start_postgres() {
  cluster=$work/postgres
  mkdir "$cluster"
  chmod 711 "$work"
  [ "$(id -u)" != 0 ] || chown postgres "$cluster"
  as_postgres "$(postgres_program initdb)" -D "$cluster" -U es -A trust >/dev/null
  as_postgres "$(postgres_program pg_ctl)" -D "$cluster" -w -l "$cluster/log" \
    -o "-p $((port + 1)) -k $cluster -c listen_addresses=127.0.0.1 -c fsync=off" start >/dev/null
}

try() {
  local backend=$1 database_url
  case $backend in
    sqlite) database_url=sqlite://$work/sqlite/events.db ;;
    postgres) start_postgres && database_url=postgresql://es@127.0.0.1:$((port + 1))/postgres ;;
    *) echo "no such backend: $backend" >&2 && return 2 ;;
  esac
  mkdir -p "$work/home-$backend" "$reports"
  (cd "$work/home-$backend" && DATABASE_URL=$database_url BIND_ADDRESS=127.0.0.1:$port LOG_LEVEL=warn \
    exec "$program" serve 2>"$reports/$backend.log") &
  server=$!
  for _ in $(seq 300); do
    curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health/ready" && break
    kill -0 "$server" || return 1
    sleep 0.1
  done
  echo "=== schemathesis on $backend"
  local outcome=0
  "$venv/bin/schemathesis" --config-file "$settings" run "http://127.0.0.1:$port/api/v1/openapi.json" \
    --phases examples,coverage,fuzzing,stateful --checks all --max-examples "${MAX_EXAMPLES:-100}" \
    --continue-on-failure --request-timeout 30 ${SEED:+--seed "$SEED"} \
    --report junit --report-junit-path "$reports/$backend.xml" || outcome=$?
  kill "$server" && wait "$server" || true
  server=
  return "$outcome"
}

if [ -z "${PROGRAM:-}" ]; then
  cargo build --release
  PROGRAM=${CARGO_TARGET_DIR:-target}/release/event-sourcing-cqrs
fi
program=$(realpath "$PROGRAM")
if [ ! -x "$venv/bin/schemathesis" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet 'schemathesis==4.*'
fi
[ $# -gt 0 ] || set -- sqlite postgres
for backend in "$@"; do
  try "$backend"
done
