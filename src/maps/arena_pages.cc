// SPDX-License-Identifier: Apache-2.0
#include "maps/arena_pages.h"

#include <algorithm>
#include <bit>

namespace skep {

ArenaPages::ArenaPages(void* base, uint32_t pages)
    : pages_(pages),
      taken_(static_cast<Word*>(base)),
      present_(taken_ + words(pages)),
      clock_(reinterpret_cast<uint32_t*>(present_ + words(pages))),
      stamps_(clock_ + 1) {}

void ArenaPages::initialise() {
  const auto beyond = static_cast<uint32_t>(words(pages_) * 64 - pages_);
  if (beyond > 0) change(taken_, pages_, beyond, true);
}

uint32_t ArenaPages::next(const Word* bits, uint32_t from, bool value) const {
  while (from < pages_) {
    const uint64_t word = bits[from / 64].load(std::memory_order_relaxed);
    const uint64_t rest = (value ? word : ~word) >> from % 64;
    if (rest != 0) return std::min(pages_, from + static_cast<uint32_t>(std::countr_zero(rest)));
    from = (from / 64 + 1) * 64;
  }
  return pages_;
}

uint32_t ArenaPages::run_begin(uint32_t page) const {
  while (page > 0) {
    // The pages before it in its word, the nearest as the highest bit.
    const uint32_t before = (page - 1) % 64 + 1;
    const uint64_t word = taken_[(page - 1) / 64].load(std::memory_order_relaxed) << (64 - before);
    if (word != 0) return page - static_cast<uint32_t>(std::countl_zero(word));
    page -= before;
  }
  return 0;
}

std::optional<uint32_t> ArenaPages::best_fit(uint32_t count) const {
  std::optional<uint32_t> best;
  uint32_t shortest = 0;
  for (uint32_t begin = next(taken_, 0, false); begin < pages_;) {
    const uint32_t end = next(taken_, begin, true);
    const uint32_t length = end - begin;
    const bool better =
        !best || length < shortest || (length == shortest && static_cast<int32_t>(stamps_[begin] - stamps_[*best]) > 0);
    if (length >= count && better) {
      best = begin;
      shortest = length;
    }
    begin = next(taken_, end, false);
  }
  return best;
}

void ArenaPages::take(uint32_t first, uint32_t count) {
  const uint32_t begin = run_begin(first);
  change(taken_, first, count, true);
  if (begin < first) stamp(begin);
  if (first + count < pages_ && !is_taken(first + count)) stamp(first + count);
}

void ArenaPages::give_back(uint32_t first, uint32_t count) {
  if (all_free(first, count)) return;
  change(taken_, first, count, false);
  stamp(run_begin(first));
}

void ArenaPages::change(Word* bits, uint32_t first, uint32_t count, bool value) {
  for (uint32_t end = first + count; first < end;) {
    const uint32_t length = std::min(64 - first % 64, end - first);
    const uint64_t mask = (length == 64 ? ~uint64_t{0} : (uint64_t{1} << length) - 1) << first % 64;
    // Release: pairs with has(): whoever sees a page present finds what was done to it before.
    if (value) {
      bits[first / 64].fetch_or(mask, std::memory_order_release);
    } else {
      bits[first / 64].fetch_and(~mask, std::memory_order_release);
    }
    first += length;
  }
}

uint32_t ArenaPages::count(const Word* bits) const {
  uint32_t sum = 0;
  for (uint64_t i = 0; i < words(pages_); ++i) sum += static_cast<uint32_t>(std::popcount(bits[i].load()));
  return sum;
}

const char* ArenaPages::problem() const {
  for (uint64_t i = 0; i < words(pages_); ++i) {
    if ((present_[i].load() & ~taken_[i].load()) != 0) return "a page exists that nobody has taken";
  }
  if (pages_ % 64 == 0) return nullptr;
  const uint64_t beyond = ~uint64_t{0} << pages_ % 64;
  const uint64_t last = words(pages_) - 1;
  if ((taken_[last].load() & beyond) != beyond) return "pages behind the last one seem free";
  return (present_[last].load() & beyond) != 0 ? "pages behind the last one seem to exist" : nullptr;
}

}  // namespace skep
