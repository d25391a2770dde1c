// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <random>
#include <string>

#include "maps/map_test_support.h"

namespace skep::testing {

/// One way to make a hash map.
struct HashShape {
  uint32_t type;
  uint32_t key_size;
  uint32_t value_size;
  uint32_t max_entries;
  uint32_t flags;
  [[nodiscard]] bool per_cpu() const { return type == BPF_MAP_TYPE_PERCPU_HASH; }
  [[nodiscard]] bool resizes() const { return type == BPF_MAP_TYPE_RHASH; }
};

inline std::string name_of(const HashShape& shape) {
  return std::string(shape.per_cpu()   ? "PerCpu"
                     : shape.resizes() ? "Rhash"
                                       : "Hash") +
         "Key" + std::to_string(shape.key_size) + "Value" + std::to_string(shape.value_size) + "Max" +
         std::to_string(shape.max_entries) + (shape.flags & BPF_F_NO_PREALLOC ? "NoPrealloc" : "");
}

/// The key with that number: distinct for distinct numbers below 256^min(key_size, 8).
inline std::string key_of(uint64_t number, uint32_t key_size) {
  std::string key(key_size, '\x5a');
  std::memcpy(key.data(), &number, std::min<size_t>(key_size, sizeof(number)));
  return key;
}

/// A value that says which key it belongs to and whether it is whole; every nonce gives another one. Needs 8 bytes to
/// be of use, 16 to be strong.
inline void fill_value(void* value, size_t size, uint64_t key, uint32_t nonce) {
  auto* bytes = static_cast<unsigned char*>(value);
  uint64_t state = (key << 24 | (nonce & 0xffffff)) * 0x9e3779b97f4a7c15;
  uint64_t word = key << 24 | (nonce & 0xffffff);
  for (size_t done = 0; done < size; done += 8) {
    std::memcpy(bytes + done, &word, std::min<size_t>(8, size - done));
    state ^= state >> 29;
    state *= 0xbf58476d1ce4e5b9;
    word = state;
  }
}
inline bool value_is_whole(const void* value, size_t size, uint64_t key) {
  uint64_t head;
  std::memcpy(&head, value, 8);
  if (head >> 24 != (key & 0xffffffffff)) return false;
  std::string expected(size, '\0');
  fill_value(expected.data(), size, key, static_cast<uint32_t>(head & 0xffffff));
  return std::memcmp(expected.data(), value, size) == 0;
}

}  // namespace skep::testing
