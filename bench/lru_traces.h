// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace skep::bench {

/// Keys as a cache is asked for them, one after the other.
struct Trace {
  std::string name;
  std::vector<uint64_t> keys;
  std::vector<uint32_t> sizes;  // of the caches to try
};

/// Made here, always the same: keys with Zipf's distribution, and the same with scans of new keys in between.
std::vector<Trace> generated_traces();
/// Those recorded in a directory: little-endian 64-bit keys in *.u64, or compressed in *.u64.xz (needs xz).
std::vector<Trace> recorded_traces(const std::string& directory);

}  // namespace skep::bench
