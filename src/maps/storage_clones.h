// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "storage/owner_layout.h"

namespace skep {

/// The maps of socket storage with BPF_F_CLONE that this process has used, by id: what whoever accepts connections has
/// to copy from. Any thread, signal handlers and forked children too: there is no lock.
class StorageClones {
 public:
  /// Whether there is any. One load.
  static bool any() { return count_.load(std::memory_order_relaxed) != 0; }

  static void add(uint32_t map) {
    for (std::atomic<uint32_t>& place : ids_) {
      uint32_t free = 0;
      if (!place.compare_exchange_strong(free, map, std::memory_order_relaxed)) continue;
      count_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
  static void remove(uint32_t map) {
    for (std::atomic<uint32_t>& place : ids_) {
      uint32_t id = map;
      if (!place.compare_exchange_strong(id, 0, std::memory_order_relaxed)) continue;
      count_.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
  }
  /// Calls use(map id) for each until it returns false.
  template <class Use>
  static void for_each(const Use& use) {
    uint32_t left = count_.load(std::memory_order_relaxed);
    for (const std::atomic<uint32_t>& place : ids_) {
      if (left == 0) return;
      const uint32_t id = place.load(std::memory_order_relaxed);
      if (id == 0) continue;
      --left;
      if (!use(id)) return;
    }
  }

 private:
  inline static std::atomic<uint32_t> count_{0};
  inline static std::array<std::atomic<uint32_t>, OwnersControl::kMostMaps> ids_{};  // 0: free
};

}  // namespace skep
