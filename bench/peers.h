// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

namespace skep::bench {

/// A concurrent table of 8-byte keys and values that somebody else wrote, filled with keys 0 .. entries - 1.
class Peer {
 public:
  virtual ~Peer() = default;
  /// That many copying lookups of random keys; any number of threads at once.
  virtual void look_up(uint64_t seed, uint64_t operations) = 0;
};

std::unique_ptr<Peer> make_tbb_peer(uint64_t entries);      // tbb::concurrent_hash_map
std::unique_ptr<Peer> make_liburcu_peer(uint64_t entries);  // cds_lfht with QSBR readers
std::unique_ptr<Peer> make_std_peer(uint64_t entries);      // std::unordered_map under a std::shared_mutex

}  // namespace skep::bench
