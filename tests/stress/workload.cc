// SPDX-License-Identifier: Apache-2.0
#include "workload.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace skep::stress {
namespace {

uint64_t mix(uint64_t value) {
  value ^= value >> 31;
  value *= 0x9e3779b97f4a7c15;
  value ^= value >> 29;
  return value;
}

constexpr size_t kWords = SharedMap::kValueSize / 8;

}  // namespace

void make_value(uint32_t key, uint64_t nonce, void* value) {
  uint64_t words[kWords];
  words[0] = nonce;
  for (size_t i = 1; i < kWords; ++i) words[i] = mix(nonce + key * 0x10001ull + i);
  std::memcpy(value, words, sizeof words);
}

bool value_is_whole(uint32_t key, const void* value, bool zero_is_legal) {
  uint64_t nonce;
  std::memcpy(&nonce, value, 8);
  unsigned char legal[SharedMap::kValueSize] = {};
  if (zero_is_legal && std::memcmp(value, legal, sizeof legal) == 0) return true;
  make_value(key, nonce, legal);
  return std::memcmp(value, legal, sizeof legal) == 0;
}

Worker::Worker(const SharedMap& map, uint32_t number, uint32_t workers, uint64_t seed, WorkerReport& report)
    : map_(map),
      number_(number),
      workers_(workers),
      random_(seed),
      report_(report),
      expected_(map.max_entries, 0),
      value_(map.user_value_size()) {}

std::vector<unsigned char> Worker::fresh_value(uint32_t key, uint64_t nonce) const {
  std::vector<unsigned char> value(map_.user_value_size());
  for (size_t part = 0; part < value.size(); part += SharedMap::kValueSize) make_value(key, nonce + part, &value[part]);
  return value;
}

void Worker::prepare(const SharedMap& map) {
  WorkerReport unused = {};
  Worker writer(map, 0, 1, 1, unused);
  for (uint32_t key = 0; key < stable_keys(map); ++key) {
    if (map.update(key, writer.fresh_value(key, key + 1).data(), BPF_ANY) != 0) abort();
  }
}

void Worker::verify(uint32_t key, const unsigned char* value) {
  for (uint32_t part = 0; part < map_.user_value_size(); part += SharedMap::kValueSize) {
    if (!value_is_whole(key, value + part, map_.is_array())) report_.torn.fetch_add(1);
  }
}

void Worker::unexpected(int error) {
  if (report_.unexpected.fetch_add(1) == 0) report_.first_error = static_cast<uint32_t>(error);
}

/// A key of this worker's own; after max_entries / 4 stable ones and one residue class per worker.
uint32_t Worker::own_key() {
  const uint32_t stable = stable_keys(map_);
  for (;;) {
    const auto key = static_cast<uint32_t>(stable + random_() % (map_.max_entries - stable));
    if (owns(key)) return key;
  }
}

void Worker::lookup() {
  const auto key = static_cast<uint32_t>(random_() % map_.max_entries);
  const int error = map_.lookup(key, value_.data());
  if (error == 0) return verify(key, value_.data());
  if (error != ENOENT) return unexpected(error);
  const bool must_exist = key < stable_keys(map_) || map_.is_array() || (owns(key) && expected_[key] != 0);
  if (must_exist) report_.lost.fetch_add(1);
}

void Worker::write() {
  const bool stable = random_() % 4 == 0;
  const uint32_t key = stable ? static_cast<uint32_t>(random_() % stable_keys(map_)) : own_key();
  const uint64_t nonce = random_() | 1;
  const auto value = fresh_value(key, nonce);
  // The own keys and the stable ones together never exceed max_entries: there is always room.
  const uint64_t flags = stable ? BPF_EXIST : map_.is_array() || expected_[key] != 0 ? BPF_EXIST : BPF_NOEXIST;
  const int error = map_.update(key, value.data(), random_() % 2 ? flags : uint64_t{BPF_ANY});
  if (error != 0) return unexpected(error);
  if (!stable) expected_[key] = nonce;
}

void Worker::remove() {
  if (map_.is_array()) return;
  const uint32_t key = own_key();
  const bool take = random_() % 2;
  const int error = take ? map_.take(key, value_.data()) : map_.erase(key);
  if (error != (expected_[key] != 0 ? 0 : ENOENT)) return unexpected(error);
  if (error == 0 && take) {
    verify(key, value_.data());
    if (std::memcmp(value_.data(), fresh_value(key, expected_[key]).data(), value_.size()) != 0)
      report_.lost.fetch_add(1);
  }
  expected_[key] = 0;
}

/// next_key may restart when the key at hand is deleted meanwhile, so this only sees that the walk goes on and that
/// every key it gives is one that exists in this test.
void Worker::walk_keys() {
  uint32_t key = 0, next = 0;
  for (uint32_t steps = 0; steps < 64; ++steps) {
    const int error = map_.next_key(steps == 0 ? nullptr : &key, &next);
    if (error == ENOENT) return;
    if (error != 0) return unexpected(error);
    if (next >= map_.max_entries) report_.torn.fetch_add(1);
    key = next;
  }
}

/// A batch walk under writers gives every stable key exactly once, and no value that nobody wrote.
void Worker::walk_batches() {
  std::vector<uint32_t> keys(map_.max_entries + 64);
  std::vector<unsigned char> values(keys.size() * map_.user_value_size());
  std::vector<bool> seen(map_.max_entries, false);
  uint32_t cursor = 0, next_cursor = 0, room = 32;
  for (bool first = true;;) {
    uint32_t count = room;
    const int error =
        map_.batch(BPF_MAP_LOOKUP_BATCH, first ? nullptr : &cursor, &next_cursor, keys.data(), values.data(), &count);
    if (error == ENOSPC && count == 0 && room < map_.max_entries) {
      room *= 2;
      continue;
    }
    // The key at which an RHASH goes on has been erased.
    if (error == EAGAIN && map_.type == BPF_MAP_TYPE_RHASH) return;
    if (error != 0 && error != ENOENT) return unexpected(error);
    for (uint32_t i = 0; i < count; ++i) {
      if (keys[i] >= map_.max_entries) {
        report_.torn.fetch_add(1);
        continue;
      }
      if (seen[keys[i]] && keys[i] < stable_keys(map_)) report_.duplicate.fetch_add(1);
      seen[keys[i]] = true;
      verify(keys[i], &values[size_t{i} * map_.user_value_size()]);
    }
    if (error == ENOENT) break;
    first = false;
    cursor = next_cursor;
  }
  for (uint32_t key = 0; key < stable_keys(map_); ++key) {
    if (!seen[key]) report_.lost.fetch_add(1);
  }
}

void Worker::write_batch() {
  uint32_t keys[8];
  std::vector<unsigned char> values;
  uint64_t nonces[8];
  for (uint32_t i = 0; i < 8; ++i) {
    keys[i] = own_key();
    nonces[i] = random_() | 1;
    const auto value = fresh_value(keys[i], nonces[i]);
    values.insert(values.end(), value.begin(), value.end());
  }
  uint32_t count = 8;
  if (map_.is_array() || random_() % 2) {
    const int error = map_.batch(BPF_MAP_UPDATE_BATCH, nullptr, nullptr, keys, values.data(), &count);
    if (error != 0 || count != 8) unexpected(error);
    for (uint32_t i = 0; i < count; ++i) expected_[keys[i]] = nonces[i];
    return;
  }
  const int error = map_.batch(BPF_MAP_DELETE_BATCH, nullptr, nullptr, keys, nullptr, &count);
  if (error != 0 && error != ENOENT) unexpected(error);
  for (uint32_t i = 0; i < count; ++i) {
    if (expected_[keys[i]] == 0) report_.lost.fetch_add(1);
    expected_[keys[i]] = 0;
  }
}

void Worker::step() {
  const auto choice = random_() % 100;
  if (choice < 40) {
    lookup();
  } else if (choice < 70) {
    write();
  } else if (choice < 85) {
    remove();
  } else if (choice < 90) {
    walk_keys();
  } else if (choice < 97) {
    write_batch();
  } else {
    walk_batches();
  }
  report_.operations.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace skep::stress
