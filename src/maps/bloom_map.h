// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/bloom_filter.h"
#include "maps/key_hash.h"
#include "maps/map.h"

namespace skep {

/// BPF_MAP_TYPE_BLOOM_FILTER: a set without keys that can be asked whether a value may be in it.
///
/// Layout
///
///   | MapHeader | kControlOffset: hash function u32, 0 up to 64 B | blocks of a BloomFilter (bloom_filter.h) |
///
/// Operations: update pushes a value; lookup asks about the value in its buffer, which it only reads: success or
///   ENOENT. Keys are null. Hash: KeyHash over the whole value, keyed by the map's seed (BPF_F_ZERO_SEED: by zeros).
/// Invariants, ordering guarantees, progress, reclamation, locks: those of BloomFilter.
/// Limits and errno: map_extra 0 to 15 (bits per value; 0 means 5), value_size 1 to 4 MiB; flags of a push EINVAL;
///   erase and next_key EOPNOTSUPP. Never full.
/// Differs from the kernel: one cache line per question; up to 1.7 times the memory for the same or a lower rate of
///   false positives; which values are false positives differs also under BPF_F_ZERO_SEED.
class BloomMap final : public Map {
 public:
  BloomMap(MapSegments segments, Machine& machine);

  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  /// `elements` counts bits, as values cannot be told apart any more.
  [[nodiscard]] CheckReport check() const override;

 private:
  [[nodiscard]] uint64_t hash(const void* value) const;

  const KeyHash hash_;
  BloomFilter filter_;
  const uint32_t value_size_;
};

}  // namespace skep
