// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "maps/hash_layout.h"
#include "maps/lru_uses.h"

namespace skep {

/// Chooses which elements of an LRU map have to go: two hands over the bytes of lru_uses.h.
///
/// Layout (the common list; BPF_F_NO_COMMON_LRU: a pair of hands for each CPU, over every n-th window of 16 bytes)
///
///     elements   1 2 3 4 5 6 7 8 9 ...
///     bytes      c c w c w w c . c c w w c w c c | w w c ...       c cold, w warm, . in no chain
///                      ^ cold hand       ^ warm hand
///
/// The cold hand goes round over the cold elements: one that was used since becomes warm, any other has to go. As the
/// element is given to a new key, which begins cold just behind the hand, cold elements have the order of a queue. One
/// that a key got otherwise, since somebody erased its last key, may be in front of the hand, which passes it once.
/// The warm hand goes round over the warm ones: one that was used loses one use, any other has to go. It moves instead
/// of the cold hand while less than 3 of 10 elements are cold. So a key that is used once only passes through the cold
/// part, as a scan does, and one that is used again stays until it has not been used for up to four rounds.
///
/// A slot claims a sector of 64 positions (fewer in a small map) and takes its victims there, 12 at a time, so that the
/// line of their bytes and those of the elements stay in the cache of one CPU while it evicts and fills them again.
///
/// Operations: choose.
/// Invariants
///   C1 Whatever the bytes, the claims and the control words hold, and become meanwhile, choose() ends and gives
///   numbers of
///      elements, kMostVictims at most.
/// Ordering guarantees: none; the numbers are hints. Who holds the chain finds out whether the element still is in it,
///   and by LruUses::lives_on() whether it has been given to another key or value meanwhile.
/// Progress: lock-free. A hand moves by one compare-and-swap, whose winner alone looks at the sector that it passed, so
/// a
///   process that dies there leaves nothing to repair: its elements are looked at in the next round, or by the next
///   tenant of its slot. A claim that the hand has left far behind is given up.
/// Reclamation, locks: none.
/// Where it differs from the kernel: the kernel keeps active and inactive lists under a lock and moves the nodes.
class LruClock {
 public:
  static constexpr uint32_t kMostVictims = 12;

  /// An element that should go, and its byte when it was chosen.
  struct Victim {
    uint32_t element;
    uint8_t byte;
  };

  LruClock(const HashLayout& layout, std::byte* window);

  /// At most kMostVictims elements that should go, of the list of `cpu` or, where that has none, of another: fewer in a
  /// small map, and 0 only where no byte has LruUses::kInChain.
  /// `claim`: what the caller's slot has claimed, 0 at first; nobody else's.
  uint32_t choose(uint32_t cpu, std::atomic<uint32_t>& claim, Victim (&victims)[kMostVictims]) const;

  [[nodiscard]] uint32_t lists() const { return lists_; }

 private:
  uint32_t choose_from(uint32_t list, std::atomic<uint32_t>& claim, Victim (&victims)[kMostVictims]) const;
  enum class Hand { kCold, kWarm, kEvery };
  static constexpr uint32_t kNowhere = UINT32_MAX;
  static constexpr uint32_t kWarmClaim = 1U << 31;

  [[nodiscard]] uint32_t window_at(uint32_t list, uint32_t position) const;
  [[nodiscard]] uint32_t members(uint32_t first, uint8_t mask, uint8_t value) const;
  uint32_t move(uint32_t list, Hand hand, uint32_t length) const;
  [[nodiscard]] bool is_over(uint32_t list, uint32_t claimed) const;
  uint32_t pass(uint32_t list, Hand hand, uint32_t& position, uint32_t wanted, Victim* victims) const;
  void recount(uint32_t list) const;

  const LruUses uses_;
  const uint32_t elements_;
  const uint32_t lists_;
  const uint32_t window_;     // positions of a window
  const uint32_t positions_;  // of each list
  const uint32_t share_;      // elements that a list has when the map is full
  const uint32_t sector_;     // positions that a slot claims at once: a multiple of the window
  const uint32_t wanted_;     // victims at once
  LruControl* const controls_;
};

}  // namespace skep
