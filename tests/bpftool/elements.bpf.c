// SPDX-License-Identifier: Apache-2.0
// Iterators over the elements of a map: one shows them, one changes them, two give up.

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

// Of the kernel's types what is used here; libbpf finds where the running kernel has it.
#define KERNEL_TYPE __attribute__((preserve_access_index))

struct bpf_map {
  __u32 id;
  __u32 value_size;
  __u32 max_entries;
  char name[16];
} KERNEL_TYPE;

struct bpf_iter_meta {
  struct seq_file *seq;
  __u64 session_id;
  __u64 seq_num;
} KERNEL_TYPE;

struct bpf_iter__bpf_map_elem {
  struct bpf_iter_meta *meta;
  struct bpf_map *map;
  void *key;
  void *value;
} KERNEL_TYPE;

SEC("iter/bpf_map_elem")
int show(struct bpf_iter__bpf_map_elem *context) {
  struct seq_file *seq = context->meta->seq;
  struct bpf_map *map = context->map;
  const __u32 *key = context->key;
  const __u64 *value = context->value;

  if (!key || !value) {
    BPF_SEQ_PRINTF(seq, "%s: %u bytes, at most %u, last number %llu\n", map->name, map->value_size, map->max_entries,
                   context->meta->seq_num);
    return 0;
  }
  BPF_SEQ_PRINTF(seq, "%llu: %u -> %llu\n", context->meta->seq_num, *key, *value);
  return 0;
}

SEC("iter/bpf_map_elem")
int doubled(struct bpf_iter__bpf_map_elem *context) {
  __u64 *value = context->value;
  if (value) *value *= 2;
  return 0;
}

SEC("iter/bpf_map_elem")
int undecided(struct bpf_iter__bpf_map_elem *context) {
  return 1;
}

char page[4096];

SEC("iter/bpf_map_elem")
int flood(struct bpf_iter__bpf_map_elem *context) {
  for (int i = 0; i < 8; ++i) bpf_seq_write(context->meta->seq, page, sizeof page);
  return 0;
}
