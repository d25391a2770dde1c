#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh CMAKE BUILD CXX CC LIBDIR: see CMakeLists.txt.
set -eu
cmake=$1 build=$2 cxx=$3 cc=$4 libdir=$5
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /dev/shm/skep-install-XXXXXX)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
export SKEP_DIR=$work/instance

"$cmake" --install "$build" --prefix "$prefix" > "$work/install.log" || { cat "$work/install.log"; exit 1; }

echo "- find_package(skep)"
"$cmake" -S "$here/consumer" -B "$work/consumer" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_PREFIX_PATH="$prefix" \
  > "$work/configure.log" 2>&1 || { cat "$work/configure.log"; exit 1; }
"$cmake" --build "$work/consumer" > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$work/consumer/consumer"

echo "- pkg-config"
export PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig
# shellcheck disable=SC2046
"$cc" -std=c11 -Wall -Wextra -Werror "$here/consumer/consumer.c" -o "$work/consumer_c" $(pkg-config --cflags --libs skep)
LD_LIBRARY_PATH=$prefix/$libdir "$work/consumer_c"

echo "- exported symbols"
unexpected=$(nm -D --defined-only "$prefix/$libdir/libskep.so" | awk '{print $3}' | grep -v '^skep_\|^SKEP_' || true)
if [ -n "$unexpected" ]; then
  echo "libskep.so exports more than the C ABI: $unexpected"
  exit 1
fi
