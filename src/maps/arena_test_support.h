// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstring>

#include "maps/arena_map.h"
#include "maps/map_test_support.h"

namespace skep::testing {

/// Makes arenas at a given user address.
class ArenaTest : public MapTest {
 protected:
  static constexpr uint64_t kBase = (uint64_t{1} << 44) + 0x5000;

  static MapSpec arena(uint32_t pages, uint64_t base = kBase, uint32_t flags = BPF_F_MMAPABLE) {
    MapSpec out = spec(BPF_MAP_TYPE_ARENA, 0, 0, pages, flags);
    out.extra = base;
    return out;
  }
  std::unique_ptr<ArenaMap> make_arena(uint32_t pages, uint64_t base = kBase) {
    auto map = make(arena(pages, base));
    return std::unique_ptr<ArenaMap>(static_cast<ArenaMap*>(map.release()));
  }
  static uint64_t page(uint64_t number) { return kBase + number * kPageSize; }
  /// The word at the start of a page, as a program sees it; null: there is no such page.
  static std::atomic<uint64_t>* word(ArenaMap& map, const Lease& lease, uint64_t address) {
    return reinterpret_cast<std::atomic<uint64_t>*>(map.reach(lease, int64_t{static_cast<uint32_t>(address)}, 8));
  }
};

}  // namespace skep::testing
