// SPDX-License-Identifier: Apache-2.0
/* As kernel_loops.bpf.c, for the kinds without keys. */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "loop_parameters.h"

struct {
  __uint(type, BPF_MAP_TYPE_QUEUE);
  __uint(max_entries, 1024);
  __type(value, __u64);
} queue SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_STACK);
  __uint(max_entries, 1024);
  __type(value, __u64);
} stack SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
  __uint(max_entries, 1024);
  __type(value, __u64);
} bloom SEC(".maps");

__u32 iterations;
__u64 entries;    /* values 0 .. entries - 1 are in the filter */
__u64 results[2]; /* of each thread, so that no loop is optimised away; operations that failed in the upper half */

#define FAILED (1ull << 32)

struct position {
  __u64 state;
  __u64 sum;
};

#define LOOP(name, step)                                                \
  static long name##_step(__u32 iteration, struct position* position) { \
    __u64 random = BENCH_NEXT(position->state);                         \
    step;                                                               \
    return 0;                                                           \
  }                                                                     \
  SEC("xdp") int name(struct xdp_md* ctx) {                             \
    struct position position = {.state = 1};                            \
    bpf_loop(iterations, name##_step, &position, 0);                    \
    results[bpf_get_smp_processor_id() & 1] = position.sum;             \
    return XDP_PASS;                                                    \
  }

#define PUSH_POP(map)                                                       \
  {                                                                         \
    __u64 value = random;                                                   \
    position->sum += bpf_map_push_elem(&map, &value, BPF_ANY) ? FAILED : 0; \
    position->sum += bpf_map_pop_elem(&map, &value) ? FAILED : 0;           \
    position->sum += value & 1;                                             \
  }

LOOP(empty, {
  __u64 value = BENCH_KEY(BENCH_INDEX(random, entries));
  position->sum += value & 1;
})
LOOP(queue_push_pop, PUSH_POP(queue))
LOOP(stack_push_pop, PUSH_POP(stack))
LOOP(bloom_hit, {
  __u64 value = BENCH_KEY(BENCH_INDEX(random, entries));
  position->sum += bpf_map_peek_elem(&bloom, &value) ? FAILED : 1;
})
LOOP(bloom_miss, {
  __u64 value = BENCH_KEY(entries + random);
  position->sum += bpf_map_peek_elem(&bloom, &value) ? 1 : 0;
})
LOOP(bloom_push, {
  __u64 value = BENCH_KEY(BENCH_INDEX(random, entries));
  position->sum += bpf_map_push_elem(&bloom, &value, BPF_ANY) ? FAILED : 0;
})

char LICENSE[] SEC("license") = "Dual BSD/GPL";
