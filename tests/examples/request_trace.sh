#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs examples/request_trace on a small load, looks at its maps from another process meanwhile, and checks that workers,
# connections, cgroups and the histogram agree about how many requests there were and how long they took.
# usage: request_trace.sh SKEP REQUEST_TRACE BPFTOOL
set -euo pipefail

skep=$1 request_trace=$2 bpftool=$3
work=$(mktemp -d /dev/shm/skep-test-XXXXXX)
server=""
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
fail() {
  echo "FAILED: $*"
  cat "$work/report" 2>/dev/null || true
  exit 1
}
under_skep() { "$skep" run --instance "$work/instance" -- "$@"; }

clients=5 requests=40
mkfifo "$work/in" "$work/messages"
under_skep "$request_trace" --workers 3 --clients $clients --requests $requests --pause \
  <"$work/in" >"$work/report" 2>"$work/messages" &
server=$!
exec 3>"$work/in" 4<"$work/messages"
read -r line <&4 || fail "it has ended"
[ "$line" = "paused after $((clients * requests)) requests" ] || fail "$line"

maps=$(under_skep "$bpftool" map show)
for name in "task_storage  name begun" "task_storage  name tasks" "task_storage  name connections" \
  "name cgroups" "array  name latencies"; do
  grep -q "$name" <<<"$maps" || fail "bpftool shows no $name: $maps"
done
counted=$(under_skep "$bpftool" -j map dump name latencies |
  python3 -c 'import json, sys; print(sum(row["formatted"]["value"] for row in json.load(sys.stdin)))')
[ "$counted" = $((clients * requests)) ] || fail "the histogram has $counted requests"

echo >&3
wait "$server" || fail "it failed"
server=""

sums() { sed -n "s/^$1: \([0-9]*\) requests, \([0-9]*\) ns in all.*/\1 \2/p" "$work/report"; }
workers=$(sums "all workers")
[ "${workers% *}" = $((clients * requests)) ] || fail "the workers have $workers"
[ "${workers#* }" -gt 0 ] || fail "it took no time"
[ "$(sums "all connections")" = "$workers" ] || fail "connections differ from workers"
if grep -q '^0::' /proc/self/cgroup; then
  [ "$(sums "all cgroups")" = "$workers" ] || fail "cgroups differ from workers"
fi
[ "$(grep -c '^connection ' "$work/report")" = $clients ] || fail "not every connection is reported"
grep -q "connections that are still known: 0$" "$work/report" || fail "closed connections have left something behind"
