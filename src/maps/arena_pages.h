// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

namespace skep {

/// Which pages of an arena are taken, which of those exist, and where the next ones go. Bits in the map's control data.
///
/// Layout:  | taken: a bit per page | present: a bit per page | clock | stamp: 32 bits per page |
///   A *run* is a longest row of pages that are not taken. stamp[first page of a run] tells when the run last changed;
///   elsewhere a stamp means nothing.
/// Writers hold the arena's lock; has() may be asked by anybody.
class ArenaPages {
 public:
  ArenaPages(void* base, uint32_t pages);
  [[nodiscard]] static uint64_t bytes(uint32_t pages) { return 2 * words(pages) * 8 + 4 + uint64_t{pages} * 4; }

  /// Of fresh zeros: the bits of the last word that stand for no page are taken for good.
  void initialise();

  [[nodiscard]] uint32_t pages() const { return pages_; }
  /// Whether the page exists. Acquire: pairs with set_present(), so its bytes are zeros or newer.
  [[nodiscard]] bool has(uint32_t page) const {
    return (present_[page / 64].load(std::memory_order_acquire) >> page % 64 & 1) != 0;
  }
  [[nodiscard]] bool is_taken(uint32_t page) const {
    return (taken_[page / 64].load(std::memory_order_relaxed) >> page % 64 & 1) != 0;
  }
  [[nodiscard]] bool all_free(uint32_t first, uint32_t count) const {
    return count <= pages_ && first <= pages_ - count && next(taken_, first, true) >= first + count;
  }

  /// Where the kernel would put `count` pages: at the start of the shortest run that holds them, of several the one
  /// that changed last.
  [[nodiscard]] std::optional<uint32_t> best_fit(uint32_t count) const;

  /// The pages were free. Splits their run.
  void take(uint32_t first, uint32_t count);
  /// Joins what becomes free with the runs beside it.
  void give_back(uint32_t first, uint32_t count);
  /// Takes back a take() that nobody saw: runs look as they did.
  void untake(uint32_t first, uint32_t count) { change(taken_, first, count, false); }
  void set_present(uint32_t first, uint32_t count) { change(present_, first, count, true); }
  void set_absent(uint32_t first, uint32_t count) { change(present_, first, count, false); }

  [[nodiscard]] uint32_t count_taken() const {
    return count(taken_) - static_cast<uint32_t>(words(pages_) * 64 - pages_);
  }
  [[nodiscard]] uint32_t count_present() const { return count(present_); }
  /// Whether the bits contradict each other; null: they do not.
  [[nodiscard]] const char* problem() const;

 private:
  using Word = std::atomic<uint64_t>;
  [[nodiscard]] static uint64_t words(uint32_t pages) { return (uint64_t{pages} + 63) / 64; }
  /// The first page from `from` on whose bit is `value`; pages_ if there is none.
  [[nodiscard]] uint32_t next(const Word* bits, uint32_t from, bool value) const;
  [[nodiscard]] uint32_t run_begin(uint32_t page) const;
  [[nodiscard]] uint32_t count(const Word* bits) const;
  static void change(Word* bits, uint32_t first, uint32_t count, bool value);
  void stamp(uint32_t page) { stamps_[page] = ++*clock_; }

  uint32_t pages_;
  Word* taken_;
  Word* present_;
  uint32_t* clock_;  // the last stamp given
  uint32_t* stamps_;
};

}  // namespace skep
