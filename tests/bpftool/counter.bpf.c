// SPDX-License-Identifier: Apache-2.0
// Counts packets by their length, with a map of every kind and global variables of every section.

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct key {
  __u16 length;
  __u16 zero;
};

struct count {
  __u64 packets;
  __u64 bytes;
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 64);
  __type(key, struct key);
  __type(value, struct count);
} by_length SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct count);
} total SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 4);
  __type(key, __u32);
  __type(value, __u64);
} classes SEC(".maps");

const volatile __u32 class_size = 100;
__u64 seen;
__u64 longest = 1;

SEC("xdp")
int count(struct xdp_md *context) {
  struct key key = {.length = context->data_end - context->data};
  struct count one = {.packets = 1, .bytes = key.length};
  __u32 zero = 0;
  __u32 class = key.length / class_size;

  struct count *known = bpf_map_lookup_elem(&by_length, &key);
  if (known) {
    __sync_fetch_and_add(&known->packets, 1);
    __sync_fetch_and_add(&known->bytes, key.length);
  } else {
    bpf_map_update_elem(&by_length, &key, &one, BPF_NOEXIST);
  }
  struct count *all = bpf_map_lookup_elem(&total, &zero);
  if (all) {
    all->packets += 1;
    all->bytes += key.length;
  }
  __u64 *members = bpf_map_lookup_elem(&classes, &class);
  if (members) __sync_fetch_and_add(members, 1);

  __sync_fetch_and_add(&seen, 1);
  if (key.length > longest) longest = key.length;
  return known ? XDP_PASS : XDP_DROP;
}
