// SPDX-License-Identifier: Apache-2.0
// The smallest programs, one per section that libbpf gives a type of its own.

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

SEC("xdp")
int pass(struct xdp_md *context) {
  return XDP_PASS;
}

SEC("socket")
int first_bytes(struct __sk_buff *buffer) {
  return 64;
}

SEC("tc")
int length(struct __sk_buff *buffer) {
  return buffer->len;
}
