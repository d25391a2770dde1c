// SPDX-License-Identifier: Apache-2.0
/* As kernel_loops.bpf.c, for ring buffers. A run ends early where a record has no room, and returns how many it made:
 * a thread that lost its CPU between reserve and submit holds all others up after a lap. */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "loop_parameters.h"

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);
} ring SEC(".maps");

__u32 iterations;
__u64 results[2]; /* of each thread, so that no loop is optimised away */

struct position {
  __u64 state;
  __u64 sum;
  __u64 refused;
};

#define LOOP(name, step)                                                \
  static long name##_step(__u32 iteration, struct position* position) { \
    __u64 random = BENCH_NEXT(position->state);                         \
    step;                                                               \
    return 0;                                                           \
  }                                                                     \
  SEC("xdp") int name(struct xdp_md* ctx) {                             \
    struct position position = {.state = 1};                            \
    long steps = bpf_loop(iterations, name##_step, &position, 0);       \
    results[bpf_get_smp_processor_id() & 1] = position.sum;             \
    return (int)(steps - (long)position.refused);                       \
  }

LOOP(empty, { position->sum += random & 1; })
LOOP(reserve_submit, {
  __u64* record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
  if (!record) {
    position->refused = 1;
    return 1;
  }
  *record = random;
  bpf_ringbuf_submit(record, 0);
  position->sum += random & 1;
})

char LICENSE[] SEC("license") = "Dual BSD/GPL";
