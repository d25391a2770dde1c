#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks formatting (.clang-format; not of programs whose lines bpftool's cases quote) and runs clang-tidy (.clang-tidy) over all sources; lists what is wrong, changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.cc' '*.h' '*.hpp' '*.c' ':!include/skep/*.h' \
  ':!tests/bpftool/*.bpf.c' | xargs clang-format --dry-run -Werror
cmake --preset asan -B build-tidy -DSKEP_FUZZ=ON >/dev/null
git ls-files 'src/*.cc' 'tests/*.cc' | xargs -P "$(nproc)" -n 4 clang-tidy-19 -p build-tidy --quiet
