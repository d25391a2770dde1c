// SPDX-License-Identifier: Apache-2.0
/* Lookups in LPM_TRIEs in the kernel's JIT-compiled programs; one program is the empty loop. */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "lpm_parameters.h"

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct lpm_key4);
  __type(value, __u64);
} trie4 SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct lpm_key16);
  __type(value, __u64);
} trie16 SEC(".maps");

__u32 iterations;
__u64 entries;
__u64 seed;
__u64 result;

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
    struct position position = {.state = seed};                         \
    bpf_loop(iterations, name##_step, &position, 0);                    \
    seed = position.state;                                              \
    result = position.sum;                                              \
    return XDP_PASS;                                                    \
  }

#define INDEX BENCH_INDEX(random, entries)

#define LOOKUP(map)                                 \
  {                                                 \
    __u64* value = bpf_map_lookup_elem(&map, &key); \
    position->sum += value ? *value & 1 : 2;        \
  }

LOOP(empty, {
  struct lpm_key4 key = LPM_KEY4(LPM_ADDRESS(INDEX), 32);
  position->sum += key.address & 1;
})
LOOP(host4, {
  struct lpm_key4 key = LPM_KEY4(LPM_ADDRESS(INDEX), 32);
  LOOKUP(trie4)
})
LOOP(random4, {
  struct lpm_key4 key = LPM_KEY4((unsigned)random, 32);
  LOOKUP(trie4)
})
LOOP(host16, {
  struct lpm_key16 key = LPM_KEY16(LPM_HIGH(INDEX), LPM_LOW(INDEX), 128);
  LOOKUP(trie16)
})

char LICENSE[] SEC("license") = "Dual BSD/GPL";
