#!/usr/bin/env bash
# Lets schemathesis try the whole API against the real program, on SQLite and on a private PostgreSQL, all phases; once
# where nobody is asked who they are, and once with API keys.
#
#   tests/schemathesis.sh [sqlite|postgres]...     both unless named; exit code 0 when nothing was found
#   AUTH=none|api-keys                             both unless set; with keys tests/schemathesis_hooks.py checks roles
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

stop_postgres() {
  [ -z "$cluster" ] || as_postgres "$(postgres_program pg_ctl)" -D "$cluster" -m immediate stop >/dev/null 2>&1 || true
  cluster=
}

finish() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; } || true
  stop_postgres
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
  cluster=$1/postgres
  mkdir "$cluster"
  chmod 711 "$work" "$1"
  [ "$(id -u)" != 0 ] || chown postgres "$cluster"
  as_postgres "$(postgres_program initdb)" -D "$cluster" -U es -A trust >/dev/null
  as_postgres "$(postgres_program pg_ctl)" -D "$cluster" -w -l "$cluster/log" \
    -o "-p $((port + 1)) -k $cluster -c listen_addresses=127.0.0.1 -c fsync=off" start >/dev/null
}

# A key of each role, as `role=key` and as a line of the settings; these no request can revoke.
make_keys() {
  local role made
  for role in admin reader writer operator auditor; do
    made=$(cd "$1" && "$program" token create --for-settings --name "$role" --role "$role") || return
    keys+="$role=$(head -1 <<<"$made") "
    [ "$role" != admin ] || admin=$(head -1 <<<"$made")
    lines+="${lines:+,}$(tail -1 <<<"$made")"
  done
}

try() {
  local backend=$1 auth=$2 home=$work/$1-$2 report=$reports/$1-$2 keys='' lines='' admin options=() database_url outcome=0
  mkdir -p "$home" "$reports"
  case $backend in
    sqlite) database_url=sqlite://$home/events.db ;;
    postgres) start_postgres "$home" && database_url=postgresql://es@127.0.0.1:$((port + 1))/postgres ;;
    *) echo "no such backend: $backend" >&2 && return 2 ;;
  esac
  case $auth in
    none) ;;
    api-keys) make_keys "$home" && options=(--header "Authorization: Bearer $admin") ;;
    *) echo "no such way in: $auth" >&2 && return 2 ;;
  esac
  (cd "$home" && DATABASE_URL=$database_url BIND_ADDRESS=127.0.0.1:$port LOG_LEVEL=warn \
    ES__AUTH__MODE=${auth/api-keys/api_key} ES__AUTH__KEYS=$lines exec "$program" serve 2>"$report.log") &
  server=$!
  for _ in $(seq 300); do
    curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health/ready" && break
    kill -0 "$server" || return 1
    sleep 0.1
  done
  # DELETE of an operation gives it up; how it ended stays to be read. A busy machine is no failure.
  echo "=== schemathesis on $backend, auth: $auth"
  SCHEMATHESIS_KEYS=$keys SCHEMATHESIS_HOOKS=$PWD/tests/schemathesis_hooks.py \
    "$venv/bin/schemathesis" --config-file "$settings" run "http://127.0.0.1:$port/api/v1/openapi.json" \
    --phases examples,coverage,fuzzing,stateful --checks all --max-examples "${MAX_EXAMPLES:-100}" \
    --exclude-checks use_after_free --continue-on-failure --request-timeout 30 --max-response-time 30 \
    ${SEED:+--seed "$SEED"} "${options[@]}" \
    --report junit --report-junit-path "$report.xml" || outcome=$?
  kill "$server" && wait "$server" || true
  server=
  stop_postgres
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
outcome=0
for backend in "$@"; do
  for auth in ${AUTH:-none api-keys}; do
    try "$backend" "$auth" || outcome=1
  done
done
exit "$outcome"
