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
constexpr uint32_t kSector = 64;       // a line of bytes
constexpr uint32_t kSectors = 16;      // of a small map, at least
constexpr uint32_t kClaimers = 4;      // whose sectors may lie between a claim and the hand, at least
constexpr uint32_t kPartOfMap = 64;    // no more than one element in so many goes at once

}  // namespace

LruClock::LruClock(const HashLayout& layout, std::byte* window)
    : uses_(reinterpret_cast<std::atomic<uint8_t>*>(window + layout.lru_uses)),
      elements_(layout.elements),
      lists_(layout.lru_lists),
      window_(layout.lru_window),
      positions_((layout.elements + window_ * lists_ - 1) / (window_ * lists_) * window_),
      share_((layout.elements - layout.spares) / lists_),
      sector_(lists_ == 1 ? std::clamp(std::bit_floor(share_ / kSectors), window_, kSector) : window_),
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

/// The hand's next positions, `length` of them at most and up to a multiple of that, which it has passed then.
/// kNowhere: another moved it.
uint32_t LruClock::move(uint32_t list, Hand hand, uint32_t length) const {
  std::atomic<uint32_t>& at = hand == Hand::kCold ? controls_[list].cold : controls_[list].warm;
  uint32_t before = load(at);
  const uint32_t from = before < positions_ ? before : 0;
  const uint32_t after = (from / length + 1) * length;
  const bool round_ends = after >= positions_;
  if (!at.compare_exchange_strong(before, round_ends ? 0 : after, std::memory_order_relaxed)) return kNowhere;
  SKEP_CRASH_POINT();
  if (round_ends) recount(list);
  return from;
}

/// Whether nothing is left of what a slot claimed, or so much time has gone by that it would be what others have filled
/// with new keys since.
bool LruClock::is_over(uint32_t list, uint32_t claimed) const {
  const uint32_t position = claimed & ~kWarmClaim;
  if (position % sector_ == 0 || position >= positions_) return true;
  const uint32_t hand = load((claimed & kWarmClaim) == 0 ? controls_[list].cold : controls_[list].warm);
  const uint32_t ahead = hand >= position ? hand - position : hand + positions_ - position;
  return ahead > std::max(positions_ / 32, kClaimers * sector_);
}

/// Looks at the elements from `position` on, to the end of its window or to the `wanted`-th that has to go; how many
/// have, and in `position` where it went to.
uint32_t LruClock::pass(uint32_t list, Hand hand, uint32_t& position, uint32_t wanted, Victim* victims) const {
  const uint32_t offset = position % window_;
  const uint32_t first = window_at(list, position);
  const uint8_t mask = hand == Hand::kEvery ? LruUses::kInChain : LruUses::kClass;
  const uint8_t value = hand == Hand::kWarm ? LruUses::kClass : LruUses::kInChain;
  uint32_t found = 0, warmed = 0, cooled = 0;
  uint32_t rest = members(first, mask, value) >> offset << offset;
  position += window_ - offset;
  for (; rest != 0 && found < wanted; rest &= rest - 1) {
    const auto i = static_cast<uint32_t>(std::countr_zero(rest));
    const uint32_t element = first + i + 1;
    const uint8_t byte = uses_.of(element);
    if (hand == Hand::kEvery || (byte & LruUses::kUnused) == 0) {
      victims[found++] = {.element = element, .byte = byte};
      cooled += (byte & LruUses::kWarm) != 0;
      if (found == wanted) position -= window_ - i - 1;
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
  if (warmed != cooled) controls_[list].warm_elements.fetch_add(warmed - cooled, std::memory_order_relaxed);
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

uint32_t LruClock::choose(uint32_t cpu, std::atomic<uint32_t>& claim, Victim (&victims)[kMostVictims]) const {
  const uint32_t own = lists_ == 1 ? 0 : cpu % lists_;
  uint32_t found = choose_from(own, claim, victims);
  // Others, who may use free elements beyond their share, have all of this CPU's.
  for (uint32_t i = 1; found == 0 && i < lists_; ++i) {
    std::atomic<uint32_t> for_once = 0;
    found = choose_from((own + i) % lists_, for_once, victims);
  }
  return found;
}

uint32_t LruClock::choose_from(uint32_t list, std::atomic<uint32_t>& claim, Victim (&victims)[kMostVictims]) const {
  const uint64_t least_cold = std::max<uint64_t>(1, uint64_t{share_} * kColdTenths / 10);
  uint32_t found = 0;
  for (uint32_t windows = 0; found < wanted_ && windows < (found == 0 ? kLongSearch : kShortSearch); ++windows) {
    uint32_t claimed = load(claim);
    uint32_t position = claimed & ~kWarmClaim;
    if (is_over(list, claimed)) {
      const bool is_cold = load(controls_[list].warm_elements) + least_cold <= share_;
      position = move(list, is_cold ? Hand::kCold : Hand::kWarm, sector_);
      if (position == kNowhere) continue;
      claimed = is_cold ? 0 : kWarmClaim;
    }
    found +=
        pass(list, (claimed & kWarmClaim) == 0 ? Hand::kCold : Hand::kWarm, position, wanted_ - found, victims + found);
    claim.store((claimed & kWarmClaim) | position, std::memory_order_relaxed);
  }
  // All are in use: the next best one goes, as long as there is one.
  for (uint32_t passed = 0; found == 0 && passed <= positions_; passed += window_) {
    uint32_t position = move(list, Hand::kEvery, window_);
    if (position != kNowhere) found = pass(list, Hand::kEvery, position, 1, victims);
  }
  return found;
}

}  // namespace skep
