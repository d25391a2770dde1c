// SPDX-License-Identifier: Apache-2.0
/* As kernel_loops.bpf.c, for timers: one that is armed already is armed for a later time. */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "loop_parameters.h"

struct element {
  struct bpf_timer timer;
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct element);
} timers SEC(".maps");

__u32 iterations;
__u64 result; /* so that no loop is optimised away; operations that failed in the upper half */

#define FAILED (1ull << 32)
#define DELAY 1000000000000ull /* ns: it never expires here */

struct position {
  __u64 state;
  __u64 sum;
};

static int expired(void* map, __u32* key, struct element* element) { return 0; }

static long empty_step(__u32 iteration, struct position* position) {
  position->sum += BENCH_NEXT(position->state) & 1;
  return 0;
}

static long restart_step(__u32 iteration, struct position* position) {
  __u32 key = 0;
  struct element* element = bpf_map_lookup_elem(&timers, &key); /* inlined by the verifier for arrays */
  position->sum += BENCH_NEXT(position->state) & 1;
  if (!element || bpf_timer_start(&element->timer, DELAY, 0) != 0) position->sum += FAILED;
  return 0;
}

SEC("xdp") int empty(struct xdp_md* ctx) {
  struct position position = {.state = 1};
  bpf_loop(iterations, empty_step, &position, 0);
  result = position.sum;
  return XDP_PASS;
}

SEC("xdp") int restart(struct xdp_md* ctx) {
  struct position position = {.state = 1};
  __u32 key = 0;
  struct element* element = bpf_map_lookup_elem(&timers, &key);
  if (!element) return XDP_ABORTED;
  bpf_timer_init(&element->timer, &timers, 1 /* CLOCK_MONOTONIC */);
  if (bpf_timer_set_callback(&element->timer, expired) != 0) return XDP_ABORTED;
  bpf_loop(iterations, restart_step, &position, 0);
  bpf_timer_cancel(&element->timer);
  result = position.sum;
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
