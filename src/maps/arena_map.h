// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "machine/holder_lock.h"
#include "maps/arena_pages.h"
#include "maps/map.h"

namespace skep {

/// BPF_MAP_TYPE_ARENA: up to 4 GiB of pages that programs and processes share, at one user address in all of them.
///
/// What it is: page p of the arena is page p of the file's user area. A program knows a page by its user address, of
///   which the low 32 bits say which it is; clients map the file there.
/// Layout
///   user window:    page 0 | page 1 | ... (holes until taken)
///   private window: | MapHeader | kControlOffset: Control | ArenaPages |
/// Operations
///   allocate  COMMIT = the store that empties Control::work, after the pages exist and their bits are set
///   release   COMMIT = the store of Control::work; whoever finds it completes it
///   reserve   as allocate, without pages
///   touch     a client touched a page that nobody had taken: the file has it, so it is taken (as by the kernel's
///   fault)
/// Invariants
///   A1 A present page is taken and has memory in the file.
///   A2 A page that is not taken has none, unless a client touched it since, through a mapping of its own.
///   A3 Only the holder of `lock` changes bits and `work`; `work` is empty whenever `lock` is.
///   A4 `window` is set once.
/// Ordering guarantees
///   O1 Who sees a page present sees the zeros that it was allocated with, or something newer (ArenaPages::has()).
/// Progress: reading a present page is wait-free. Changes wait for one lock, at most Waiter::kLimitNanoseconds behind a
///   stopped process and not at all behind a dead one.
/// Reclamation: pages go back to the file system when they are freed, in every process at once, and read as zeros when
///   they are allocated again.
/// Locks and their order: `lock` alone. Taken under a lease.
/// Limits and errno: 1 .. 2^20 pages, above E2BIG; a map_extra whose range crosses a multiple of 4 GiB ERANGE; lookups
///   EINVAL, other element commands EOPNOTSUPP; a full file system: allocate() fails, nobody gets SIGBUS for it.
/// Differences from the kernel: what a client's plain mapping touches is noticed when a program or an allocation comes
///   there; pages behind max_entries that a longer mapping covers are not the programs'. docs/arena.md.
class ArenaMap final : public Map {
 public:
  ArenaMap(MapSegments segments, Machine& machine);

  /// Where clients map the arena, and how much of it; zeros: nobody did so far, and map_extra did not say.
  struct Window {
    uint64_t start = 0;  // address
    uint64_t pages = 0;
    [[nodiscard]] uint64_t end() const { return start + pages * kPageSize; }
  };
  [[nodiscard]] Window window() const {
    if (spec().extra != 0) return {spec().extra, spec().max_entries};
    return unpack(control_.window.load(std::memory_order_acquire));
  }
  /// The first mapping of any process says where all others go: true if this is that one, or like it.
  bool claim_window(uint64_t start, uint64_t pages);

  /// bpf_arena_alloc_pages(): the user address of `count` zeroed pages, at `address` or (0) where there is room. 0: an
  /// address that is not a page's, taken pages, no room for so many in a row, no memory.
  uint64_t allocate(const Lease& lease, uint64_t address, uint32_t count);
  /// bpf_arena_free_pages(): the pages of the arena in that range, allocated or not.
  void release(const Lease& lease, uint64_t address, uint32_t count);
  /// bpf_arena_reserve_pages(): no allocation chooses these pages any more. EINVAL: not inside the arena; EBUSY: taken.
  Status reserve(const Lease& lease, uint64_t address, uint32_t count);

  /// The memory behind `size` (at most 8) bytes from `offset` of the 4 GiB that a program addresses with 32 bits; null:
  /// some of it does not exist.
  [[nodiscard]] std::byte* reach(const Lease& lease, int64_t offset, uint32_t size) {
    constexpr int64_t kSpan = int64_t{1} << 32;
    if (offset < 0 || offset >= kSpan) return nullptr;
    const uint32_t distance = static_cast<uint32_t>(offset) - low_half_of_start();
    const uint64_t first = distance / kPageSize, last = (uint64_t{distance} + size - 1) / kPageSize;
    if (last >= pages_.pages()) return nullptr;
    if (pages_.has(static_cast<uint32_t>(first)) && pages_.has(static_cast<uint32_t>(last))) [[likely]]
      return segments_.user.data() + distance;
    return touched(lease, static_cast<uint32_t>(first)) && touched(lease, static_cast<uint32_t>(last))
               ? segments_.user.data() + distance
               : nullptr;
  }

  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  [[nodiscard]] CheckReport check() const override;

  struct Control {
    std::atomic<uint64_t> window;            // see unpack(), of a map_extra the low 56 bits; 0: not known yet
    alignas(64) std::atomic<uint64_t> lock;  // HolderLock
    std::atomic<uint64_t> work;              // what the lock's holder is about: kind, count, first page; 0: nothing
  };
  /// User space has addresses of 56 bits; map_extra may have more.
  [[nodiscard]] static uint64_t pack(uint64_t start, uint64_t pages) {
    return (pages - 1) << kStartBits | (start / kPageSize & kStartMask);
  }
  [[nodiscard]] static Window unpack(uint64_t word) {
    if (word == 0) return {};
    return {(word & kStartMask) * kPageSize, (word >> kStartBits) + 1};
  }

 private:
  static constexpr int kStartBits = 44;
  static constexpr uint64_t kStartMask = (uint64_t{1} << kStartBits) - 1;

  [[nodiscard]] uint32_t low_half_of_start() const {
    return static_cast<uint32_t>(unpack(control_.window.load(std::memory_order_acquire)).start);
  }
  enum class Work : uint64_t { kAllocate = 1, kReserve, kRelease };
  class Hold;
  void begin(Work work, uint32_t first, uint32_t count);
  void end();
  void complete_work();
  [[nodiscard]] uint64_t page_of(uint64_t address) const {
    return static_cast<uint32_t>(static_cast<uint32_t>(address) - low_half_of_start()) / kPageSize;
  }
  /// Whether the page exists; if a client touched it, it is taken from now on.
  bool touched(const Lease& lease, uint32_t page);
  void adopt(uint32_t page);
  /// The first of the pages that has memory although it may not be taken; first + count: none.
  [[nodiscard]] uint32_t find_memory(uint32_t first, uint32_t count) const;
  [[nodiscard]] bool swapped(uint32_t first, uint32_t count, uint32_t& found) const;

  Control& control_;
  ArenaPages pages_;
};

}  // namespace skep
