// SPDX-License-Identifier: Apache-2.0
// The programs of perf_buffers.c.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "perf_buffers.h"

struct {
  __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
  __uint(key_size, 4);
  __uint(value_size, 4);
  __uint(max_entries, MOST_CPUS);
} events SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct scratch);
  __uint(max_entries, 1);
} scratches SEC(".maps");

// Arguments: flags, size, operation, first word of the data.
SEC("raw_tp/sys_enter")
int emit(struct bpf_raw_tracepoint_args* context) {
  __u32 zero = 0;
  struct scratch* scratch = bpf_map_lookup_elem(&scratches, &zero);
  __u64 flags = context->args[0], size = context->args[1], values[8] = {};

  if (!scratch || size > sizeof(scratch->data)) return -1000;
  switch (context->args[2]) {
    case OP_OUTPUT:
      return bpf_perf_event_output(context, &events, flags, scratch->data, size);
    case OP_STAMPED:
      values[0] = context->args[3];
      for (int i = 1; i < 8; i++) values[i] = values[0] * 31 + i;
      return bpf_perf_event_output(context, &events, flags, values, sizeof(values));
    case OP_READ:
      return bpf_perf_event_read(&events, flags);
    case OP_READ_VALUE:
      return bpf_perf_event_read_value(&events, flags, &scratch->value, sizeof(scratch->value));
    case OP_READ_WRONG_SIZE:
      return bpf_perf_event_read_value(&events, flags, &scratch->value, 16);
  }
  return -1001;
}

static __u64 packet_flags(void) {
  __u32 zero = 0;
  struct scratch* scratch = bpf_map_lookup_elem(&scratches, &zero);
  return scratch ? scratch->flags : 0;
}

SEC("tc")
int emit_skb(struct __sk_buff* skb) {
  __u64 values[2] = {0x1111, 0x2222};
  return bpf_perf_event_output(skb, &events, packet_flags(), values, 12);
}

SEC("xdp")
int emit_xdp(struct xdp_md* xdp) {
  __u64 values[2] = {0x1111, 0x2222};
  return bpf_perf_event_output(xdp, &events, packet_flags(), values, 12);
}

char _license[] SEC("license") = "GPL";
