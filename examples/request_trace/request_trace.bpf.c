// SPDX-License-Identifier: Apache-2.0
/*
 * Two programs that the server runs at the beginning and at the end of each request. When the request began is kept
 * with the task that answers it; how long it took is added to what is known of the task, the connection and the cgroup.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "request_trace.h"

#define CGRP_STORAGE 32 /* BPF_MAP_TYPE_CGRP_STORAGE, which older headers do not know */

/* Of the kernel's structures what leads from a task to its cgroup. */
struct css_set {
  struct cgroup* dfl_cgrp;
} __attribute__((preserve_access_index));
struct task_struct {
  struct css_set* cgroups;
} __attribute__((preserve_access_index));

#define STORAGE(name, kind, value_type)   \
  struct {                                \
    __uint(type, kind);                   \
    __uint(map_flags, BPF_F_NO_PREALLOC); \
    __type(key, int);                     \
    __type(value, value_type);            \
  } name SEC(".maps")

STORAGE(begun, BPF_MAP_TYPE_TASK_STORAGE, __u64); /* when the request that the task answers began; 0: it answers none */
STORAGE(tasks, BPF_MAP_TYPE_TASK_STORAGE, struct totals);
STORAGE(connections, BPF_MAP_TYPE_TASK_STORAGE, struct totals); /* of objects of the server */
STORAGE(cgroups, CGRP_STORAGE, struct totals);

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, LATENCY_CLASSES);
  __type(key, __u32);
  __type(value, __u64);
} latencies SEC(".maps");

__u64 answered; /* bytes */

static __always_inline void add(struct totals* totals, __u64 latency) {
  if (!totals) return;
  __sync_fetch_and_add(&totals->requests, 1);
  __sync_fetch_and_add(&totals->latency, latency);
  if (latency > totals->slowest) totals->slowest = latency; /* of two at once one may be lost */
}

static __always_inline void count(__u64 latency) {
  __u32 class = 0;

  while (latency > 1 && class < LATENCY_CLASSES - 1) {
    latency >>= 1;
    class ++;
  }
  __u64* requests = bpf_map_lookup_elem(&latencies, &class);
  if (requests) __sync_fetch_and_add(requests, 1);
}

SEC("raw_tp/request_begin") int request_begin(struct request* request) {
  struct task_struct* task = bpf_get_current_task_btf();
  __u64* begun_at = bpf_task_storage_get(&begun, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

  if (begun_at) *begun_at = bpf_ktime_get_ns();
  return 0;
}

SEC("raw_tp/request_end") int request_end(struct request* request) {
  struct task_struct* task = bpf_get_current_task_btf();
  __u64* begun_at = bpf_task_storage_get(&begun, task, 0, 0);

  if (!begun_at || !*begun_at) return 0;
  __u64 latency = bpf_ktime_get_ns() - *begun_at;
  *begun_at = 0;
  add(bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE), latency);
  add(bpf_task_storage_get(&connections, (void*)request->connection, 0, BPF_LOCAL_STORAGE_GET_F_CREATE), latency);
  add(bpf_cgrp_storage_get(&cgroups, task->cgroups->dfl_cgrp, 0, BPF_LOCAL_STORAGE_GET_F_CREATE), latency);
  count(latency);
  __sync_fetch_and_add(&answered, request->bytes);
  return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
