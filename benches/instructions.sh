#!/usr/bin/env bash
# Measures the user-space instructions that a server executes per operation, as
# callgrind counts them. Other programs on the machine do not influence this
# number. Each load runs with N and with 2 N operations. The difference divided
# by N excludes start-up and storing the keys.
#
#   benches/instructions.sh [SERVER...]
#
# SERVER is a program with memcached's options, by default
# target/release/rustcached. Needs valgrind and a release build. Debian's
# memcached 1.6.18 does not start under valgrind, because it tries to lower the
# limit of open files.
set -euo pipefail

BENCH=${BENCH:-target/release/rustcached-bench}
KEYS=10000
LOADS=(get1 set1 get32 set32 mget50 mg32 bget32 incr32 zipf)
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT

# count SERVER LOAD OPERATIONS PORT: prints the instructions of a single run.
count() {
  local server=$1 load=$2 operations=$3 port=$4 pid
  valgrind --tool=callgrind --callgrind-out-file="$OUT/counts" --quiet \
    "$server" -l 127.0.0.1 -p "$port" -U 0 -u root -t 1 -m 256 -c 200 >"$OUT/log" 2>&1 &
  pid=$!
  for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
  done
  if ! "$BENCH" run --server "127.0.0.1:$port" --load "$load" --keys "$KEYS" --load-keys \
    --connections 10 --warmup 0 --requests "$operations" --quiet >"$OUT/run" 2>&1; then
    cat "$OUT/run" >&2
    kill "$pid"
    return 1
  fi
  kill -INT "$pid"
  wait "$pid" || true
  awk '/^(summary|totals):/ { print $2; exit }' "$OUT/counts"
}

servers=("${@:-target/release/rustcached}")
port=22700
printf '%-8s' load
printf ' %24s' "${servers[@]##*/}"
printf '\n'
for load in "${LOADS[@]}"; do
  operations=20000
  printf '%-8s' "$load"
  for server in "${servers[@]}"; do
    first=$(count "$server" "$load" "$operations" "$port")
    second=$(count "$server" "$load" "$((2 * operations))" "$((port + 1))")
    port=$((port + 2))
    printf ' %24d' "$(((second - first) / operations))"
  done
  printf '\n'
done
