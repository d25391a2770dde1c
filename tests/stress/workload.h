// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <random>
#include <vector>

#include "shared_map.h"

namespace skep::stress {

/// One 40-byte value: {nonce, four words that follow from key, nonce and position}. Whoever reads one can tell alone
/// whether it is a value that somebody wrote for this key, wholly.
void make_value(uint32_t key, uint64_t nonce, void* value);
/// An array element nobody wrote yet, all zero, counts too.
bool value_is_whole(uint32_t key, const void* value, bool zero_is_legal);

/// What one worker reports, in memory that the test can see also when the worker is another process.
struct WorkerReport {
  std::atomic<uint64_t> operations;  // progress: written by the worker, read by the test
  std::atomic<uint64_t> torn;        // values that nobody wrote
  std::atomic<uint64_t> lost;        // keys that must be there and were not
  std::atomic<uint64_t> duplicate;   // keys that one walk gave twice
  std::atomic<uint64_t> unexpected;  // errors that must not happen
  std::atomic<uint32_t> first_error;
};

/// One worker on one map. Keys fall into three parts: the lowest quarter is *stable* (written before the workers start,
/// replaced by them, never deleted); the rest belongs to worker `key % workers`, which alone writes and deletes it and
/// so knows exactly what must be there.
class Worker {
 public:
  Worker(const SharedMap& map, uint32_t number, uint32_t workers, uint64_t seed, WorkerReport& report);

  /// One random operation: lookup, replace, insert, erase, take, walk, batch lookup, update, delete.
  void step();
  /// Makes the stable keys exist. Before any worker starts.
  static void prepare(const SharedMap& map);
  static uint32_t stable_keys(const SharedMap& map) { return map.max_entries / 4; }

  /// What this worker's own keys must hold now: nonce by key, 0 where absent. Meaningful in the worker's own process.
  [[nodiscard]] const std::vector<uint64_t>& expected() const { return expected_; }
  [[nodiscard]] bool owns(uint32_t key) const { return key >= stable_keys(map_) && key % workers_ == number_; }

 private:
  void lookup();
  void write();
  void remove();
  void walk_keys();
  void walk_batches();
  void write_batch();
  void verify(uint32_t key, const unsigned char* value);
  void unexpected(int error);
  uint32_t own_key();
  std::vector<unsigned char> fresh_value(uint32_t key, uint64_t nonce) const;

  const SharedMap& map_;
  uint32_t number_, workers_;
  std::mt19937_64 random_;
  WorkerReport& report_;
  std::vector<uint64_t> expected_;
  std::vector<unsigned char> value_;
};

}  // namespace skep::stress
