// SPDX-License-Identifier: Apache-2.0
/*
 * The loops that the kernel runs in its JIT-compiled programs: `iterations` map operations each on random keys.
 * One program is the empty loop, whose time the harness subtracts from the others'.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "loop_parameters.h"

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1);
  __type(key, __u64);
  __type(value, __u64);
} hash SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(max_entries, 1);
  __type(key, __u64);
  __type(value, __u64);
} percpu_hash SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} array SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} percpu_array SEC(".maps");

__u32 iterations;
__u64 entries; /* keys 0 .. entries - 1 are in the maps */
__u64 seed;
__u64 result; /* so that no loop is optimised away; lookups that missed are counted in the upper half */

#define MISSED (1ull << 32)

struct position {
  __u64 state;
  __u64 sum;
};

/* LOOP(name, step): a program `name` that runs `step` for each iteration with the random number `random`. */
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

#define LOOKUP(map, key_type, key_value)            \
  {                                                 \
    key_type key = key_value;                       \
    __u64* value = bpf_map_lookup_elem(&map, &key); \
    position->sum += value ? *value & 1 : MISSED;   \
  }

#define UPDATE(map, key_type, key_value)                                             \
  {                                                                                  \
    key_type key = key_value;                                                        \
    position->sum += bpf_map_update_elem(&map, &key, &random, BPF_ANY) ? MISSED : 0; \
  }

#define CHURN(map)                                                                       \
  {                                                                                      \
    __u64 key = BENCH_KEY(entries + iteration);                                          \
    position->sum += bpf_map_update_elem(&map, &key, &random, BPF_NOEXIST) ? MISSED : 0; \
    position->sum += bpf_map_delete_elem(&map, &key) ? MISSED : 0;                       \
  }

LOOP(empty, {
  __u64 key = BENCH_KEY(BENCH_INDEX(random, entries));
  position->sum += key & 1;
})
LOOP(hash_lookup, LOOKUP(hash, __u64, BENCH_KEY(BENCH_INDEX(random, entries))))
LOOP(hash_update, UPDATE(hash, __u64, BENCH_KEY(BENCH_INDEX(random, entries))))
LOOP(hash_churn, CHURN(hash))
LOOP(percpu_hash_lookup, LOOKUP(percpu_hash, __u64, BENCH_KEY(BENCH_INDEX(random, entries))))
LOOP(percpu_hash_update, UPDATE(percpu_hash, __u64, BENCH_KEY(BENCH_INDEX(random, entries))))
LOOP(percpu_hash_churn, CHURN(percpu_hash))
LOOP(array_lookup, LOOKUP(array, __u32, BENCH_INDEX(random, entries)))
LOOP(array_update, UPDATE(array, __u32, BENCH_INDEX(random, entries)))
LOOP(percpu_array_lookup, LOOKUP(percpu_array, __u32, BENCH_INDEX(random, entries)))
LOOP(percpu_array_update, UPDATE(percpu_array, __u32, BENCH_INDEX(random, entries)))

char LICENSE[] SEC("license") = "Dual BSD/GPL";
