// SPDX-License-Identifier: Apache-2.0
#pragma once

// For the tests of skep_crashing_hash_maps: the hash maps with crash points at which a process gets a signal.

#include "machine/crash_countdown.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <map>
#include <string>
#include <vector>

#include "maps/hash_map.h"
#include "maps/hash_test_support.h"

namespace skep::testing {

/// A map under test, spoken to with key numbers and nonces.
struct Subject {
  Map& map;
  const Lease& lease;

  std::string value(uint64_t key, uint32_t nonce) const {
    std::string bytes(map.user_value_size(), '\0');
    fill_value(bytes.data(), bytes.size(), key, nonce);
    return bytes;
  }
  int put(uint64_t key, uint32_t nonce, uint64_t flags = BPF_ANY) const {
    return error_of(map.update(lease, key_of(key, map.spec().key_size).data(), value(key, nonce).data(), flags));
  }
  int erase(uint64_t key) const { return error_of(map.erase(lease, key_of(key, map.spec().key_size).data())); }
};

inline MapSpec hash(uint32_t value_size, uint32_t max_entries, uint32_t flags = 0, uint32_t type = BPF_MAP_TYPE_HASH) {
  MapSpec spec = {};
  spec.type = type;
  spec.key_size = 8;
  spec.value_size = value_size;
  spec.max_entries = max_entries;
  spec.flags = flags | BPF_F_ZERO_SEED;
  return spec;
}

inline MapSpec locked_hash() {
  MapSpec spec = hash(24, 64);
  spec.fields.spin_lock = 8;
  return spec;
}

/// The i-th key whose bucket is the first of `buckets`, under the zero seed.
inline uint64_t colliding(uint64_t i, uint32_t buckets = 8) {
  static std::map<uint32_t, std::vector<uint64_t>> found;
  static const uint64_t kZero[4] = {};
  static const KeyHash hash_of_zero(KeyHash::best(), kZero);
  auto& keys = found[buckets];
  for (uint64_t number = keys.empty() ? 0 : keys.back() + 1; keys.size() <= i; ++number) {
    if ((hash_of_zero.of<8>(&number, 8) & (buckets - 1)) == 0) keys.push_back(number);
  }
  return keys[i];
}

inline void put_colliding(const Subject& s, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) ASSERT_EQ(s.put(colliding(i), 1), 0);
}
inline void put_first(const Subject& s, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) ASSERT_EQ(s.put(i, 1), 0);
}

using Content = std::map<std::string, std::string>;

inline Content content_of(const Map& map) {
  Content content;
  std::string key(map.spec().key_size, '\0'), value(map.user_value_size(), '\0');
  std::string next = key;
  const void* from = nullptr;
  while (error_of(map.next_key(from, next.data())) == 0) {
    key = next;
    from = key.data();
    if (error_of(map.lookup(key.data(), value.data(), 0)) != 0 || !content.emplace(key, value).second) {
      ADD_FAILURE() << "iteration met a key twice, or one that is not there";
      break;
    }
  }
  return content;
}

}  // namespace skep::testing
