// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>

namespace skep::testing {

/// How often a randomised or concurrent test does what it does `usual` times in a plain build: a quarter of that under
/// a sanitizer, where everything takes several times as long, and SKEP_STRESS times as often where that is set.
inline uint64_t repeats(uint64_t usual) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  usual = (usual + 3) / 4;
#endif
#endif
  const char* const text = std::getenv("SKEP_STRESS");
  const int factor = text != nullptr ? std::atoi(text) : 1;
  return factor > 1 ? usual * static_cast<uint64_t>(factor) : usual;
}

}  // namespace skep::testing
