#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs every test: release, then ASan + UBSan with a minute of each fuzzer, then TSan. Ends with one line that
# counts them all; fails if any of them failed or a build ran no test. `check.sh release` runs that part alone.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

passed=0 failed=0 skipped=0
run() {
  local preset=$1 started=$SECONDS
  echo "== $preset"
  scripts/build.sh "$preset" all || {
    echo "== $preset does not build"
    failed=$((failed + 1))
    return
  }
  local built=$SECONDS log
  log=$(mktemp)
  ctest --preset "$preset" -j "${JOBS:-$(nproc)}" --no-tests=error </dev/null 2>&1 | tee "$log"
  local status=${PIPESTATUS[0]} wrong total omitted
  wrong=$(sed -n 's/.* \([0-9]*\) tests\{0,1\} failed out of [0-9]*.*/\1/p' "$log" | tail -1)
  total=$(sed -n 's/.* tests\{0,1\} failed out of \([0-9]*\).*/\1/p' "$log" | tail -1)
  omitted=$(grep -c '\*\*\*Skipped' "$log")
  rm -f "$log"
  [ "$status" = 0 ] || [ "${wrong:-0}" != 0 ] || wrong=1
  failed=$((failed + ${wrong:-0}))
  skipped=$((skipped + omitted))
  passed=$((passed + ${total:-0} - ${wrong:-0} - omitted))
  echo "== $preset: built in $((built - started)) s, tested in $((SECONDS - built)) s"
}

[ $# != 0 ] || set -- release asan tsan
for preset in "$@"; do run "$preset"; done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
