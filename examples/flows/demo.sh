#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Accounts the recorded capture with an ordinary libbpf application: under skep, looked at with Debian's bpftool while it
# runs and afterwards; then, where bpf(2) is permitted, with the same binary on the kernel; and compares.
# usage: demo.sh BUILD_DIRECTORY
set -euo pipefail

build=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
capture=$here/capture.pcap
flows=$build/bin/flows
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
instance=$(mktemp -d /dev/shm/skep-demo.XXXXXX)
application=""

finish() {
  [ -z "$application" ] || kill "$application" 2>/dev/null || true
  rm -rf "$work" "$instance"
}
trap finish EXIT

title() { printf '\n== %s\n' "$*"; }
under_skep() { "$build/bin/skep" run --instance "$instance" -- "$@"; }
show() {
  printf '\n$ skep run -- %s\n' "$*"
  under_skep "$@"
}
first_lines() { # all of it is read, so that nobody who writes it gets SIGPIPE
  awk -v limit="$1" 'NR <= limit { print } END { if (NR > limit) print "... (" NR " lines)" }'
}

title "The application under skep, as $(id -un), paused after 20000 packets"
mkfifo "$work/in" "$work/messages"
printf '$ skep run -- flows --pin /sys/fs/bpf/flows --pause-at 20000 capture.pcap\n'
under_skep "$flows" --pin /sys/fs/bpf/flows --pause-at 20000 "$capture" \
  <"$work/in" >"$work/skep.txt" 2>"$work/messages" &
application=$!
exec 3>"$work/in" 4<"$work/messages"
while read -r line <&4; do
  echo "$line"
  case $line in paused*) break ;; esac
done
[ "${line#paused}" != "$line" ] || exit 1

title "What bpftool of another process sees meanwhile"
show bpftool prog show
show bpftool map show
show bpftool map dump name sizes
show bpftool map dump name flows | first_lines 24

title "The application goes on to its end"
echo >&3
exec 3>&-
skep_time=""
while read -r line <&4; do
  echo "$line"
  case $line in *" packets in "*) skep_time=${line#* in } ;; esac
done
wait "$application"
application=""
cat "$work/skep.txt"

title "It is gone; the pinned maps are still there"
show bpftool map show pinned /sys/fs/bpf/flows/flows
show bpftool map lookup pinned /sys/fs/bpf/flows/protocols key 6 0 0 0

title "The same binary on the kernel"
on_kernel() { # a bpf file system of its own where it may mount one: nothing is left behind
  unshare --mount bash -c '
    mount -t bpf bpf "$1" && pin=(--pin "$1/flows")
    exec "$2" "${pin[@]}" "$3"' on_kernel "$work/bpf" "$flows" "$capture"
}
mkdir "$work/bpf"
if ! { on_kernel || "$flows" "$capture"; } >"$work/kernel.txt" 2>"$work/kernel.log"; then
  cat "$work/kernel.log"
  echo "The kernel refuses bpf(2) to $(id -un) here, so there is nothing to compare with."
  exit 0
fi
cat "$work/kernel.log"
kernel_time=$(sed -n 's/.* packets in //p' "$work/kernel.log")
cmp "$work/skep.txt" "$work/kernel.txt" || {
  echo "The two reports differ:"
  diff "$work/skep.txt" "$work/kernel.txt"
  exit 1
}
echo "The two reports are the same, byte for byte: $(wc -c <"$work/skep.txt") bytes."
echo "Accounting took $skep_time under skep (interpreted) and $kernel_time on the kernel (JIT)."
