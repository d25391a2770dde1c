// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace skep::bench {

/// bpf(2) by libc's syscall(), as every client calls it: the kernel's, or skep's under its preload library.
inline long bpf(int command, bpf_attr& attributes, size_t size = sizeof(bpf_attr)) {
  return syscall(__NR_bpf, command, &attributes, size);
}

/// Creates a map with 8-byte values; -1 and errno where it is refused.
inline int create_map(uint32_t type, uint32_t key_size, uint32_t max_entries) {
  bpf_attr attributes{};
  attributes.map_type = type;
  attributes.key_size = key_size;
  attributes.value_size = 8;
  attributes.max_entries = max_entries;
  return static_cast<int>(bpf(BPF_MAP_CREATE, attributes));
}

/// The attributes of an element command; `value` is also where GET_NEXT_KEY puts the key.
inline bpf_attr element_attributes(int map, const void* key, void* value, uint64_t flags) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = reinterpret_cast<uint64_t>(key);
  attributes.value = reinterpret_cast<uint64_t>(value);
  attributes.flags = flags;
  return attributes;
}

/// An element command with as much of the attributes as libbpf passes.
inline long element(int command, int map, const void* key, void* value, uint64_t flags = 0) {
  bpf_attr attributes = element_attributes(map, key, value, flags);
  return bpf(command, attributes, offsetof(bpf_attr, flags) + sizeof(attributes.flags));
}

/// BPF_MAP_UPDATE_BATCH of `count` elements.
inline long update_batch(int map, const void* keys, const void* values, uint32_t count) {
  bpf_attr attributes{};
  attributes.batch.map_fd = static_cast<uint32_t>(map);
  attributes.batch.keys = reinterpret_cast<uint64_t>(keys);
  attributes.batch.values = reinterpret_cast<uint64_t>(values);
  attributes.batch.count = count;
  return bpf(BPF_MAP_UPDATE_BATCH, attributes);
}

}  // namespace skep::bench
