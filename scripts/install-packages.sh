#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that the named groups need and that are missing; says nothing when none is.
# usage: install-packages.sh [build] [check] [bench] [tidy]
set -eu

build="cmake ninja-build g++ clang-19 libgtest-dev libbpf-dev bpftool"
check="libclang-rt-19-dev lld-19 llvm-19 pkg-config python3"
bench="libtbb-dev liburcu-dev"
tidy="clang-tidy-19 clang-format"

command -v dpkg-query >/dev/null || {
  echo "This is not Debian: please provide what these packages hold: $build $check $bench" >&2
  exit 0
}

missing=""
for group in "$@"; do
  case $group in
    build) packages=$build ;;
    check) packages=$check ;;
    bench) packages=$bench ;;
    tidy) packages=$tidy ;;
  esac
  for package in $packages; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
  done
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || {
    echo "Please install as root:$missing" >&2
    exit 1
  }
  as_root="sudo"
fi

install_missing() {
  # shellcheck disable=SC2086  # a list of package names
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing </dev/null
}

echo "Installing:$missing"
# shellcheck disable=SC2086
if ! apt-cache show $missing >/dev/null 2>&1 || ! install_missing; then
  $as_root apt-get update -q </dev/null
  install_missing
fi
