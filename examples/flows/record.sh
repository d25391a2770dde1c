#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Records capture.pcap: real programs talking over a virtual cable between two network namespaces. CAPTURE.md tells what.
# usage (as root): record.sh OUTPUT.pcap
# needs: iproute2 tcpdump nginx-light dnsmasq-base dnsutils curl iperf3 iputils-ping
set -euo pipefail

output=$(realpath -m "$1")
client=flows-client-$$
server=flows-server-$$
work=$(mktemp -d)
server4=10.71.0.1 server6=fd71::1
pids=()

finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  ip netns delete "$client" 2>/dev/null || true
  ip netns delete "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

at_client() { ip netns exec "$client" "$@"; }
at_server() { ip netns exec "$server" "$@"; }
in_background() { # its process id is the program's own, because ip(8) replaces itself
  ip netns exec "$@" &
  pids+=($!)
}
until_true() {
  for _ in $(seq 100); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1
  done
  echo "gave up on: $*" >&2
  return 1
}

ip netns add "$client"
ip netns add "$server"
# No segmentation offload, so that what is captured is what a real cable would carry.
ip link add cable netns "$client" gso_max_segs 1 type veth peer name cable netns "$server" gso_max_segs 1
connect() { # namespace IPv4 IPv6
  ip -n "$1" address add "$2/24" dev cable
  ip -n "$1" address add "$3/64" dev cable nodad
  ip -n "$1" link set cable up
  ip -n "$1" link set lo up
}
connect "$client" 10.71.0.2 fd71::2
connect "$server" "$server4" "$server6"

mkdir "$work/files"
for kilobytes in 1 2 5 10 20 50 100 400; do
  head -c "${kilobytes}K" /dev/urandom >"$work/files/${kilobytes}k"
done
cat >"$work/nginx.conf" <<NGINX
daemon off;
pid $work/nginx.pid;
error_log $work/nginx.log;
events {}
http {
  access_log off;
  server {
    listen 80;
    listen [::]:80;
    root $work/files;
  }
}
NGINX
chmod -R a+rX "$work"
in_background "$server" nginx -c "$work/nginx.conf"
{
  echo "no-resolv"
  echo "listen-address=$server4,$server6"
  for host in $(seq 1 200); do
    echo "host-record=host$host.skep.test,10.71.1.$host,fd71::1:$host"
  done
} >"$work/dnsmasq.conf"
in_background "$server" dnsmasq --keep-in-foreground --conf-file="$work/dnsmasq.conf" --pid-file="$work/dnsmasq.pid" --user=root \
  --log-facility="$work/dnsmasq.log"
in_background "$server" iperf3 --server --logfile "$work/iperf3.log"
until_true at_client curl -s -o /dev/null "http://$server4/1k"
until_true at_client dig +tries=1 +time=1 "@$server4" host1.skep.test
until_true at_server bash -c "ss -ltn | grep -q :5201"

in_background "$client" tcpdump -q -i cable -s 96 -B 65536 -w "$work/capture.pcap" 2>"$work/tcpdump.log"
tcpdump=${pids[-1]}
until_true grep -q "listening on" "$work/tcpdump.log"

download() { # the 8 files, each over a connection of its own, with 4 clients at once
  for kilobytes in 1 2 5 10 20 50 100 400; do
    echo "http://$1/${kilobytes}k"
  done | at_client xargs -P 4 -n 1 curl -g -s -o /dev/null
}
resolve() {
  for host in $(seq 1 200); do
    echo "host$host.skep.test $2"
  done | at_client dig +tries=1 "@$1" -f - >/dev/null
}

at_client ping -q -c 20 -i 0.01 "$server4" >/dev/null
at_client ping -6 -q -c 20 -i 0.01 "$server6" >/dev/null
resolve "$server4" A
resolve "$server6" AAAA
for _ in $(seq 10); do
  download "$server4"
  download "[$server6]"
done
for path in 1k 10k; do # many requests over one connection
  at_client curl -g -s -o /dev/null "http://$server4/$path?[1-150]"
  at_client curl -g -s -o /dev/null "http://[$server6]/$path?[1-150]"
done
at_client iperf3 -c "$server4" -n 5M >/dev/null
at_client iperf3 -c "$server6" -n 5M >/dev/null
at_client iperf3 -c "$server4" -u -b 50M -n 2M >/dev/null
at_client iperf3 -c "$server6" -R -n 3M >/dev/null

sleep 1 # tcpdump still has packets to write
kill "$tcpdump"
wait "$tcpdump" || true
cp "$work/capture.pcap" "$output"
cat "$work/tcpdump.log"
ls -l "$output"
