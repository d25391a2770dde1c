// SPDX-License-Identifier: Apache-2.0
#include "maps/lru_clock.h"

#include <algorithm>
#include <bit>

#include "machine/crash_point.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace skep {
namespace {

constexpr uint32_t kColdTenths = 3;
constexpr uint32_t kLongSearch = 128;  // windows, while nothing was found
constexpr uint32_t kShortSearch = 8;   // and after something was
constexpr uint32_t kPartOfMap = 64;    // no more than one element in so many goes at once

}  // namespace

LruClock::LruClock(const HashLayout& layout, std::byte* window)
    : uses_(reinterpret_cast<std::atomic<uint8_t>*>(window + layout.lru_uses)),
      elements_(layout.elements),
      lists_(layout.lru_lists),
      window_(layout.lru_window),
      positions_((layout.elements + window_ * lists_ - 1) / (window_ * lists_) * window_),
      share_((layout.elements - layout.spares) / lists_),
      wanted_(std::clamp(share_ / kPartOfMap, 1U, kMostVictims)),
      controls_(reinterpret_cast<LruControl*>(window + layout.lru_controls)) {}

/// The byte where the window of a list's position begins.
uint32_t LruClock::window_at(uint32_t list, uint32_t position) const {
  return (position / window_ * lists_ + list) * window_;
}

/// Which bytes of the window from `first` on are `value` under `mask`.
uint32_t LruClock::members(uint32_t first, uint8_t mask, uint8_t value) const {
  if (first >= elements_) return 0;
#if defined(__SSE2__)
  if (window_ == 16) [[likely]] {
    // Two atomic loads of 8 bytes: bytes beyond the last element are there and 0.
    const auto* words = reinterpret_cast<const uint64_t*>(uses_.address(first + 1));
    const __m128i bytes = _mm_set_epi64x(static_cast<int64_t>(__atomic_load_n(words + 1, __ATOMIC_RELAXED)),
                                         static_cast<int64_t>(__atomic_load_n(words, __ATOMIC_RELAXED)));
    const __m128i masked = _mm_and_si128(bytes, _mm_set1_epi8(static_cast<char>(mask)));
    return static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(masked, _mm_set1_epi8(static_cast<char>(value)))));
  }
#endif
  uint32_t found = 0;
  for (uint32_t i = 0; i < window_ && first + i < elements_; ++i) {
    found |= static_cast<uint32_t>((uses_.of(first + i + 1) & mask) == value) << i;
  }
  return found;
}

/// Moves a hand to behind the `wanted`-th element that has to go, or to the end of the window. False: another moved it.
bool LruClock::pass(uint32_t list, Hand hand, uint32_t wanted, Claim& claim) const {
  std::atomic<uint32_t>& at = hand == Hand::kCold ? controls_[list].cold : controls_[list].warm;
  uint32_t before = load(at);
  const uint32_t from = before < positions_ ? before : 0;
  const uint32_t offset = from % window_;
  claim.first = window_at(list, from);
  const uint8_t mask = hand == Hand::kEvery ? LruUses::kInChain : LruUses::kClass;
  const uint8_t value = hand == Hand::kWarm ? LruUses::kClass : LruUses::kInChain;
  claim.members = members(claim.first, mask, value) >> offset << offset;
  uint32_t after = from - offset + window_;
  for (uint32_t rest = claim.members; rest != 0; rest &= rest - 1) {
    const auto i = static_cast<uint32_t>(std::countr_zero(rest));
    if (hand != Hand::kEvery && (uses_.of(claim.first + i + 1) & LruUses::kUnused) != 0) continue;
    if (--wanted != 0) continue;
    claim.members &= (2U << i) - 1;
    after = from - offset + i + 1;
    break;
  }
  if (after >= positions_) after = 0;
  if (!at.compare_exchange_strong(before, after, std::memory_order_relaxed)) return false;
  SKEP_CRASH_POINT();
  if (after == 0) recount(list);
  return true;
}

/// Looks at what a hand passed; how many elements have to go. More may by now than when it passed them, since their
/// bytes change at any time: those beyond `wanted` wait for the next round.
uint32_t LruClock::age(LruControl& control, Hand hand, const Claim& claim, uint32_t wanted, Victim* victims) const {
  uint32_t found = 0, warmed = 0, cooled = 0;
  for (uint32_t rest = claim.members; rest != 0 && found < wanted; rest &= rest - 1) {
    const uint32_t element = claim.first + static_cast<uint32_t>(std::countr_zero(rest)) + 1;
    const uint8_t byte = uses_.of(element);
    if (hand == Hand::kEvery || (byte & LruUses::kUnused) == 0) {
      victims[found++] = {.element = element, .byte = byte};
      cooled += (byte & LruUses::kWarm) != 0;
      continue;
    }
    const bool is_used = (byte & LruUses::kUses) != 0;
    auto after = static_cast<uint8_t>((byte & ~LruUses::kFresh) | LruUses::kInChain);
    if (is_used && (byte & LruUses::kWarm) == 0) {
      after = static_cast<uint8_t>((after & ~LruUses::kUses) | LruUses::kWarm);
      ++warmed;
    } else if (is_used) {
      --after;
    }
    uses_.set(element, after);
  }
  if (warmed != cooled) control.warm_elements.fetch_add(warmed - cooled, std::memory_order_relaxed);
  return found;
}

/// How many elements are warm is counted as it changes, roughly, and exactly whenever a hand begins a new round.
void LruClock::recount(uint32_t list) const {
  uint32_t warm = 0;
  for (uint32_t position = 0; position < positions_; position += window_) {
    warm += static_cast<uint32_t>(
        std::popcount(members(window_at(list, position), LruUses::kClass, LruUses::kInChain | LruUses::kWarm)));
  }
  controls_[list].warm_elements.store(warm, std::memory_order_relaxed);
}

uint32_t LruClock::choose(uint32_t cpu, Victim (&victims)[kMostVictims]) const {
  const uint32_t own = lists_ == 1 ? 0 : cpu % lists_;
  uint32_t found = choose_from(own, victims);
  // Others, who may use free elements beyond their share, have all of this CPU's.
  for (uint32_t i = 1; found == 0 && i < lists_; ++i) found = choose_from((own + i) % lists_, victims);
  return found;
}

uint32_t LruClock::choose_from(uint32_t list, Victim (&victims)[kMostVictims]) const {
  LruControl& control = controls_[list];
  const uint64_t least_cold = std::max<uint64_t>(1, uint64_t{share_} * kColdTenths / 10);
  uint32_t found = 0;
  Claim claim;
  for (uint32_t windows = 0; found < wanted_ && windows < (found == 0 ? kLongSearch : kShortSearch); ++windows) {
    const Hand hand = load(control.warm_elements) + least_cold <= share_ ? Hand::kCold : Hand::kWarm;
    const uint32_t wanted = wanted_ - found;
    if (pass(list, hand, wanted, claim)) found += age(control, hand, claim, wanted, victims + found);
  }
  // All are in use: the next best one goes, as long as there is one.
  for (uint32_t passed = 0; found == 0 && passed <= positions_; passed += window_ == 1 ? 1 : window_ / 2) {
    if (pass(list, Hand::kEvery, 1, claim)) found += age(control, Hand::kEvery, claim, 1, victims);
  }
  return found;
}

}  // namespace skep
