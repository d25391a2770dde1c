// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace skep::bench {

/// max_entries of the maps that are measured.
inline constexpr uint64_t kSizes[] = {1 << 10, 1 << 16, 1 << 20};
/// How many of them stay free, for the keys that a loop inserts and deletes again.
inline constexpr uint64_t kSpare = 64;
/// Parts that a per-CPU value may have here.
inline constexpr uint64_t kMaximumCpus = 1024;

}  // namespace skep::bench
