// SPDX-License-Identifier: Apache-2.0
// Variables of all three sections, read and written by a program.

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

const volatile int factor = 1;
int offset = 10;
int runs;
long results[4];

SEC("tc")
int compute(struct __sk_buff *buffer) {
  int run = runs & 3;
  results[run] = (long)buffer->len * factor + offset;
  offset += 1;
  runs += 1;
  return (int)results[run];
}
