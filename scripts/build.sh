#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Configures a preset where that is needed and builds a target of it.
# usage: build.sh PRESET TARGET [configure options]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1 target=$2
shift 2
case $preset in
  release) directory=build ;;
  *) directory=build-$preset ;;
esac
# Ninja configures again by itself when a CMake file changed; only the first time and new options need it said.
if [ ! -f "$directory/build.ninja" ] || [ CMakePresets.json -nt "$directory/build.ninja" ] || [ $# -gt 0 ]; then
  cmake --preset "$preset" "$@" >"$directory.log" 2>&1 || {
    cat "$directory.log" >&2
    exit 1
  }
  rm -f "$directory.log"
fi
cmake --build "$directory" --target "$target" ${JOBS:+-j "$JOBS"}
