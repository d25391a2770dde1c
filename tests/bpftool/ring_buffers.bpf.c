// SPDX-License-Identifier: Apache-2.0
// The programs of ring_buffers.c.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "ring_buffers.h"

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, RING_SIZE);
} ring SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_USER_RINGBUF);
  __uint(max_entries, RING_SIZE);
} requests SEC(".maps");

#define RESERVE(bytes)                                   \
  {                                                      \
    __u64* place = bpf_ringbuf_reserve(&ring, bytes, 0); \
    if (!place) return -1;                               \
    place[0] = call->value;                              \
    if (call->operation == OP_DISCARD)                   \
      bpf_ringbuf_discard(place, call->flags);           \
    else                                                 \
      bpf_ringbuf_submit(place, call->flags);            \
    return 0;                                            \
  }

SEC("syscall")
int produce(struct call* call) {
  __u64 values[8];
  struct bpf_dynptr dynptr;
  long result;

  for (int i = 0; i < 8; i++) values[i] = call->value + i;
  switch (call->operation) {
    case OP_OUTPUT:
      if (call->size > sizeof(values)) return -1000;
      return bpf_ringbuf_output(&ring, values, call->size, call->flags);
    case OP_QUERY:
      return bpf_ringbuf_query(&ring, call->flags);
    case OP_SUBMIT:
    case OP_DISCARD:
      switch (call->size) {
        case 8:
          RESERVE(8)
        case 100:
          RESERVE(100)
        case 1000:
          RESERVE(1000)
        case 4080:
          RESERVE(4080)
        default:
          RESERVE(4088)
      }
    case OP_DYNPTR:
      result = bpf_ringbuf_reserve_dynptr(&ring, call->size, 0, &dynptr);
      bpf_dynptr_write(&dynptr, 0, values, sizeof(values[0]), 0);
      if (result == 0) result = bpf_dynptr_write(&dynptr, call->value % 64, values, sizeof(values), 0);
      if (call->flags & 4)
        bpf_ringbuf_discard_dynptr(&dynptr, call->flags & 3);
      else
        bpf_ringbuf_submit_dynptr(&dynptr, call->flags & 3);
      return result;
  }
  return -1000;
}

static long take(struct bpf_dynptr* dynptr, void* context) {
  struct call* sums = context;
  __u64 value = 0;
  long result = bpf_dynptr_read(&value, sizeof(value), dynptr, 0, 0);

  sums->size++;
  if (result != 0) {
    sums->flags++;
    return 0;
  }
  sums->value = sums->value * 31 + value;
  return value == STOP_VALUE;
}

SEC("syscall")
int drain(struct call* call) {
  struct call sums = {};
  long result = bpf_user_ringbuf_drain(&requests, take, &sums, call->flags);

  call->value = sums.value;
  call->size = sums.size;
  call->operation = sums.flags;
  return result;
}

char _license[] SEC("license") = "GPL";
