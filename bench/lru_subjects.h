// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace skep::bench {

/// An LRU map as programs use it.
class LruSubject {
 public:
  enum class Loop { kEmpty, kLookup, kUpdate, kInsert };

  virtual ~LruSubject() = default;
  /// One loop of `count` operations on the calling thread, which runs on CPU `thread`: lookups and updates of keys that
  /// were inserted, or inserts of keys that never were.
  virtual void run(Loop loop, int thread, uint64_t count) = 0;
  /// Looks each key up and inserts it where it is missing; how many were there.
  virtual uint64_t replay(const std::vector<uint64_t>& keys) = 0;
};

/// The kernel's map under its compiled programs; null, after a sentence on stderr, where it refuses. `flags`:
/// BPF_F_NO_COMMON_LRU or 0. Keys 0 .. entries - 1 are inserted first. `trace`: room for the keys of replay().
std::unique_ptr<LruSubject> load_kernel_lru(uint32_t size, uint64_t entries, uint32_t flags, uint32_t trace);
/// skep's, below the directory `instances`.
std::unique_ptr<LruSubject> make_skep_lru(const std::string& instances, uint32_t size, uint64_t entries,
                                          uint32_t flags);

}  // namespace skep::bench
