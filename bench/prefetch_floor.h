// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace skep::bench {

/// What the machine asks for a lookup with two dependent memory accesses, sixteen of them at once: the least that any
/// table of buckets and elements can take per key.
///
/// The memory is a shared mapping in the sizes that a table of `entries` needs (a 64-byte bucket for eight 16-byte
/// elements), so that caches and page tables are burdened alike. The buckets of a group of keys are prefetched; then an
/// index is read from each bucket and its element is prefetched; then the elements are read. Nothing is hashed,
/// compared, versioned or repeated.
class PrefetchFloor {
 public:
  static constexpr uint32_t kGroup = 16;

  explicit PrefetchFloor(uint64_t entries);
  PrefetchFloor(const PrefetchFloor&) = delete;
  PrefetchFloor& operator=(const PrefetchFloor&) = delete;
  ~PrefetchFloor();

  /// That many keys, rounded up to groups; nanoseconds per key.
  double time(uint64_t seed, uint64_t keys);

 private:
  struct Bucket {
    uint32_t indices[16];
  };
  struct Element {
    uint64_t key;
    uint64_t value;
  };
  uint64_t buckets_;
  uint64_t bytes_;
  Bucket* table_;
  Element* elements_;
};

}  // namespace skep::bench
