// SPDX-License-Identifier: Apache-2.0
/* What the kernel runs on its LRU map: updates, inserts that evict, and the replay of a trace. */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "loop_parameters.h"
#include "lru_thread.h"

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1);
  __type(key, __u64);
  __type(value, __u64);
} lru SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} trace SEC(".maps");

__u32 iterations;
__u64 entries; /* keys 0 .. entries - 1 have been inserted */

#define CPUS 64

struct lru_thread threads[CPUS]; /* of the program that runs on that CPU */

#define LOOP(name, step)                                                  \
  static long name##_step(__u32 iteration, struct lru_thread* state) {    \
    step;                                                                 \
    return 0;                                                             \
  }                                                                       \
  SEC("xdp") int name(struct xdp_md* ctx) {                               \
    struct lru_thread* own = &threads[bpf_get_smp_processor_id() % CPUS]; \
    struct lru_thread state = *own;                                       \
    bpf_loop(iterations, name##_step, &state, 0);                         \
    *own = state;                                                         \
    return XDP_PASS;                                                      \
  }

#define UPDATE(key_value)                                                           \
  {                                                                                 \
    __u64 updated = key_value, value = 1;                                           \
    if (bpf_map_update_elem(&lru, &updated, &value, BPF_ANY) != 0) state->failed++; \
  }

LOOP(empty, {
  __u64 random = BENCH_NEXT(state->random);
  state->hits += BENCH_KEY(BENCH_INDEX(random, entries)) & 1;
})
LOOP(lookup, {
  __u64 random = BENCH_NEXT(state->random);
  __u64 key = BENCH_KEY(BENCH_INDEX(random, entries));
  __u64* value = bpf_map_lookup_elem(&lru, &key);
  if (value) state->hits += *value & 1;
})
LOOP(update, {
  __u64 random = BENCH_NEXT(state->random);
  UPDATE(BENCH_KEY(BENCH_INDEX(random, entries)));
})
LOOP(insert, {
  UPDATE(BENCH_KEY(state->fresh));
  state->fresh += 2;
})
LOOP(replay, {
  __u64* key = bpf_map_lookup_elem(&trace, &iteration);
  if (!key) return 1;
  if (bpf_map_lookup_elem(&lru, key)) {
    state->hits++;
  } else {
    UPDATE(*key);
  }
})

char LICENSE[] SEC("license") = "Dual BSD/GPL";
