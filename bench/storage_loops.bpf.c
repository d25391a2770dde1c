// SPDX-License-Identifier: Apache-2.0
/* As kernel_loops.bpf.c, for the local storage of the task that runs the program. */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "loop_parameters.h"

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u64);
} storage SEC(".maps");

__u32 iterations;
__u64 result; /* so that no loop is optimised away; operations that failed in the upper half */

#define FAILED (1ull << 32)

struct position {
  __u64 state;
  __u64 sum;
};

static long empty_step(__u32 iteration, struct position* position) {
  position->sum += (bpf_get_current_task_btf() != 0) & BENCH_NEXT(position->state);
  return 0;
}

static long get_step(__u32 iteration, struct position* position) {
  __u64* value = bpf_task_storage_get(&storage, bpf_get_current_task_btf(), 0, 0);
  position->sum += value ? *value & BENCH_NEXT(position->state) & 1 : FAILED;
  return 0;
}

static long churn_step(__u32 iteration, struct position* position) {
  __u64* value = bpf_task_storage_get(&storage, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
  position->sum += value ? *value & BENCH_NEXT(position->state) & 1 : FAILED;
  position->sum += bpf_task_storage_delete(&storage, bpf_get_current_task_btf()) ? FAILED : 0;
  return 0;
}

/* LOOP(name): a program that runs name_step; the task has a value before the first. */
#define LOOP(name)                                                                                 \
  SEC("raw_tp") int name(void* ctx) {                                                              \
    struct position position = {.state = 1};                                                       \
    bpf_task_storage_get(&storage, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE); \
    bpf_loop(iterations, name##_step, &position, 0);                                               \
    result = position.sum;                                                                         \
    return 0;                                                                                      \
  }

LOOP(empty)
LOOP(get)

SEC("raw_tp") int churn(void* ctx) {
  struct position position = {.state = 1};
  bpf_task_storage_delete(&storage, bpf_get_current_task_btf());
  bpf_loop(iterations, churn_step, &position, 0);
  result = position.sum;
  return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
