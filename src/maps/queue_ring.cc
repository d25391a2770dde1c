// SPDX-License-Identifier: Apache-2.0
#include "maps/queue_ring.h"

#include <bit>
#include <cerrno>
#include <optional>

#include "machine/crash_point.h"
#include "machine/waiter.h"
#include "memory/file_header.h"
#include "memory/shared_copy.h"

namespace skep {
namespace {

/// The cell that this thread has claimed: a signal handler that interrupts the claim must not wait for it.
[[gnu::tls_model("initial-exec")]] constinit thread_local const void* t_claimed = nullptr;

void relax(uint32_t times) {
  for (uint32_t i = 0; i < times; ++i) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    compiler_barrier();
#endif
  }
}

}  // namespace

/// Marks a cell as this thread's for as long as it lives.
class QueueRing::Claim {
 public:
  explicit Claim(const Cell& cell) : outer_(t_claimed) {
    t_claimed = &cell;
    compiler_barrier();
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    compiler_barrier();
    t_claimed = outer_;
  }

 private:
  const void* const outer_;
};

/// What one operation remembers of its waiting.
class QueueRing::ClaimWait {
 public:
  explicit ClaimWait(const QueueRing& ring) : ring_(ring) {}

  /// One step of waiting for the claim `word` in the cell of `at`, `ahead` rounds ahead of it. 0: look again. A dead
  /// process's claim is undone; where the window does not allow that, dead() tells.
  int wait(uint64_t at, uint64_t word, int64_t ahead) {
    Cell& cell = ring_.cell_at(at);
    if (t_claimed == &cell) return EDEADLK;
    if (!waiter_ || word != waited_for_) {
      waiter_.emplace(ring_.machine_);
      waited_for_ = word;
    }
    const ProcessTag claimant{static_cast<uint32_t>(word >> kStateBits)};
    // The word names no slot: that this thread holds the claim was found out above.
    switch (waiter_->wait(ring_.machine_.slots(), claimant)) {
      case Waiter::Verdict::kTryAgain:
        return 0;
      case Waiter::Verdict::kOwnThread:
        return EDEADLK;
      case Waiter::Verdict::kTimedOut:
        return ETIMEDOUT;
      case Waiter::Verdict::kHolderGone:
        break;
    }
    if (!ring_.writable_) {
      dead_ = word;
      return 0;
    }
    const uint64_t claimed = ring_.later(at, ahead);
    const uint64_t undone =
        state_of(word) == kPushing ? ring_.empty_word(ring_.later(claimed, 1)) : ring_.full_word(claimed);
    // Who loses has been overtaken by another who undid it. Pairs with the acquire loads of words.
    cell.word.compare_exchange_strong(word, undone, std::memory_order_acq_rel, std::memory_order_relaxed);
    return 0;
  }

  /// A claim of a dead process that a read-only window cannot undo; no word of a cell when there is none.
  [[nodiscard]] uint64_t dead() const { return dead_; }

  /// How many cells an operation passes over at most: twice round the ring, and what others do meanwhile.
  bool pass() { return ++passed_ <= 4 * ring_.capacity_ + (uint64_t{1} << 20); }

  void overtaken() {
    relax(1U << (overtaken_ < kLongestPause ? overtaken_ : kLongestPause));
    ++overtaken_;
  }
  [[nodiscard]] bool starving() const { return overtaken_ >= kAttempts; }

 private:
  static constexpr uint32_t kLongestPause = 4;  // as a power of two

  const QueueRing& ring_;
  std::optional<Waiter> waiter_;
  uint64_t waited_for_ = 0;
  uint64_t dead_ = 0;
  uint64_t passed_ = 0;
  uint32_t overtaken_ = 0;
};

uint64_t QueueRing::size_of(uint32_t capacity, uint32_t value_size) {
  return sizeof(Hints) + capacity * (sizeof(Cell) + round_up(value_size, 8));
}

QueueRing::QueueRing(std::byte* area, uint32_t capacity, uint32_t value_size, bool writable, Machine& machine)
    : hints_(reinterpret_cast<Hints*>(area)),
      cells_(area + sizeof(Hints)),
      capacity_(capacity),
      value_size_(value_size),
      stride_(sizeof(Cell) + round_up(value_size, 8)),
      index_bits_(static_cast<uint32_t>(std::bit_width(uint64_t{capacity} - 1))),
      index_mask_((uint64_t{1} << index_bits_) - 1),
      writable_(writable),
      machine_(machine) {}

int64_t QueueRing::rounds_ahead(uint64_t word, uint64_t position) const {
  if (state_of(word) <= kFull) return static_cast<int64_t>((word >> kStateBits) - round(position));
  return static_cast<int64_t>(word - (round(position) << kClaimShift)) >> kClaimShift;
}

uint64_t QueueRing::begin(const Hint& hint) const {
  // Acquire pairs with the release stores of hints: cells are seen at least as far on as the hint says.
  const uint64_t position = hint.position.load(std::memory_order_acquire);
  return (position & index_mask_) < capacity_ ? position : position & ~index_mask_;
}

void QueueRing::fill(Cell& cell, uint64_t at, const void* value) const {
  // Release, so that who begins here sees the cell claimed.
  hints_->tail.position.store(next(at), std::memory_order_release);
  SKEP_CRASH_POINT();
  std::atomic_thread_fence(std::memory_order_release);  // whoever sees a byte of the value sees the claim: peek()
  if (value_size_ == 8) {
    copy_to_shared(cell.value(), value, 8);
  } else {
    copy_to_shared(cell.value(), value, value_size_);
  }
  SKEP_CRASH_POINT();
  cell.word.store(full_word(at), std::memory_order_release);  // COMMIT; pairs with the acquire loads of words
  SKEP_CRASH_POINT();
}

void QueueRing::take_out(Cell& cell, void* value) const {
  if (value_size_ == 8) {
    copy_from_shared(value, cell.value(), 8);
  } else {
    copy_from_shared(value, cell.value(), value_size_);
  }
  SKEP_CRASH_POINT();
}

Status QueueRing::push(const Lease& lease, const void* value, bool overwrite) {
  // The undisturbed case: the hint is right and the cell free.
  const uint64_t at = begin(hints_->tail);
  Cell& cell = cell_at(at);
  uint64_t word = empty_word(at);
  if (cell.word.load(std::memory_order_relaxed) == word) [[likely]] {
    const Claim claim(cell);
    // Acquire pairs with the release of the pop or the repair that left the word.
    if (cell.word.compare_exchange_strong(word, claim_word(at, kPushing, lease.process()), std::memory_order_acq_rel,
                                          std::memory_order_relaxed)) [[likely]] {
      SKEP_CRASH_POINT();
      fill(cell, at, value);
      return {};
    }
  }
  return push_slowly(lease.process(), value, overwrite);
}

Status QueueRing::push_slowly(ProcessTag self, const void* value, bool overwrite) {
  ClaimWait wait(*this);
  for (uint64_t at = begin(hints_->tail);;) {
    Cell& cell = cell_at(at);
    uint64_t word = cell.word.load(std::memory_order_acquire);
    const bool drops = overwrite && word == full_word(later(at, -1));
    if (word == empty_word(at) || drops) [[likely]] {
      const Claim claim(cell);
      // Acquire pairs with the release of the pop or the repair that left the word.
      if (cell.word.compare_exchange_strong(word, claim_word(at, kPushing, self), std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) [[likely]] {
        SKEP_CRASH_POINT();
        if (drops) hints_->head.position.store(next(later(at, -1)), std::memory_order_release);
        fill(cell, at, value);
        return {};
      }
      wait.overtaken();
    } else if (const int error = pass_to_push(at, word, overwrite, wait); error != 0) {
      return fail(error);
    }
  }
}

/// What a push does about a cell that it cannot take: the next position to look at, or why there is none.
int QueueRing::pass_to_push(uint64_t& at, uint64_t word, bool overwrite, ClaimWait& wait) const {
  const State state = state_of(word);
  const int64_t ahead = rounds_ahead(word, at);
  if (ahead >= 0) {
    if (state == kEmpty && ahead == 0) return 0;  // somebody has just let go of it
    at = next(later(at, state == kEmpty ? ahead - 1 : ahead));
    return wait.pass() ? 0 : EIO;
  }
  if (ahead != -1 || state == kEmpty) return EIO;
  if (state != kFull) return wait.wait(at, word, ahead);
  return overwrite ? 0 : E2BIG;
}

Status QueueRing::pop(const Lease& lease, void* value) {
  // The undisturbed case: the hint is right and the cell full.
  const uint64_t at = begin(hints_->head);
  Cell& cell = cell_at(at);
  uint64_t word = cell.word.load(std::memory_order_acquire);  // pairs with the commit in fill()
  if (word == full_word(at)) [[likely]] {
    take_out(cell, value);
    // COMMIT, as in pop_slowly().
    if (cell.word.compare_exchange_strong(word, empty_word(later(at, 1)), std::memory_order_acq_rel,
                                          std::memory_order_relaxed)) [[likely]] {
      SKEP_CRASH_POINT();
      hints_->head.position.store(next(at), std::memory_order_release);  // pairs with begin()
      return {};
    }
  }
  return pop_slowly(lease.process(), value);
}

Status QueueRing::pop_slowly(ProcessTag self, void* value) {
  ClaimWait wait(*this);
  for (uint64_t at = begin(hints_->head);;) {
    Cell& cell = cell_at(at);
    uint64_t word = cell.word.load(std::memory_order_acquire);
    if (word == full_word(at)) [[likely]] {
      if (wait.starving()) {
        if (const Status done = read_claimed(self, at, word, value, true); done) return done;
        continue;
      }
      take_out(cell, value);
      // COMMIT. Release: the copy is complete before the next push may write; pairs with that push's acquire.
      if (cell.word.compare_exchange_strong(word, empty_word(later(at, 1)), std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) [[likely]] {
        SKEP_CRASH_POINT();
        hints_->head.position.store(next(at), std::memory_order_release);  // pairs with begin()
        return {};
      }
      wait.overtaken();
    } else if (const int error = pass_to_read(at, word, wait); error != 0) {
      return fail(error);
    }
  }
}

Status QueueRing::peek(void* value) const {
  ClaimWait wait(*this);
  for (uint64_t at = begin(hints_->head);;) {
    Cell& cell = cell_at(at);
    const uint64_t word = cell.word.load(std::memory_order_acquire);
    if (word == full_word(at) || (word == wait.dead() && state_of(word) == kPopping)) [[likely]] {
      if (wait.starving() && writable_ && state_of(word) == kFull) {
        if (const Status done = read_claimed(machine_.self(), at, word, value, false); done) return done;
        continue;
      }
      copy_from_shared(value, cell.value(), value_size_);
      std::atomic_thread_fence(std::memory_order_acquire);  // the copy comes before the second look
      if (cell.word.load(std::memory_order_relaxed) == word) [[likely]]
        return {};
      wait.overtaken();
    } else if (const int error = pass_to_read(at, word, wait); error != 0) {
      return fail(error);
    }
  }
}

/// The way of a reader that was overtaken too often: nobody moves the cell while it is copied. Fails, whatever the
/// error, where somebody was faster once more.
Status QueueRing::read_claimed(ProcessTag process, uint64_t at, uint64_t word, void* value, bool consume) const {
  Cell& cell = cell_at(at);
  const Claim claim(cell);
  // Acquire pairs with the release that left the word.
  if (!cell.word.compare_exchange_strong(word, claim_word(at, kPopping, process), std::memory_order_acq_rel,
                                         std::memory_order_relaxed)) {
    return fail(EAGAIN);
  }
  SKEP_CRASH_POINT();
  copy_from_shared(value, cell.value(), value_size_);
  SKEP_CRASH_POINT();
  // COMMIT of a pop. Release: the copy is complete before the next push may write.
  cell.word.store(consume ? empty_word(later(at, 1)) : word, std::memory_order_release);
  SKEP_CRASH_POINT();
  if (consume) hints_->head.position.store(next(at), std::memory_order_release);  // pairs with begin()
  return {};
}

/// What a reader does about a cell that it cannot take: the next position to look at, or why there is none.
int QueueRing::pass_to_read(uint64_t& at, uint64_t word, ClaimWait& wait) const {
  const State state = state_of(word);
  const int64_t ahead = rounds_ahead(word, at);
  if (ahead < 0) return EIO;
  if (ahead == 0) {
    if (state == kEmpty || (state == kPushing && nothing_behind(at, word))) return ENOENT;
    if (state == kFull) return 0;  // somebody has just committed or put it back
    if (word == wait.dead()) {
      at = next(at);
      return 0;
    }
    return wait.wait(at, word, ahead);
  }
  // Of an empty cell it is not known whether it was consumed or left by a dead producer, before its turn came; that its
  // round before was claimed says that everything a round earlier has been consumed.
  at = next(ahead == 1 || state != kEmpty ? later(at, ahead - 1) : later(at, ahead - 2));
  return wait.pass() ? 0 : EIO;
}

/// Whether no push behind the unfinished one `claim` at `at` has been finished: behind it are only unfinished ones and
/// cells that dead producers left. Then none had been when the cell of `at` was looked at.
bool QueueRing::nothing_behind(uint64_t at, uint64_t claim) const {
  uint64_t behind = next(at);
  for (uint64_t steps = 0; steps < capacity_; ++steps, behind = next(behind)) {
    const uint64_t word = cell_at(behind).word.load(std::memory_order_acquire);
    const int64_t ahead = rounds_ahead(word, behind);
    if (ahead < 0 || (ahead == 0 && state_of(word) == kEmpty)) break;
    const bool is_left = ahead == 1 && state_of(word) == kEmpty;  // or consumed, if the claim has gone meanwhile
    if (!is_left && !(ahead == 0 && state_of(word) == kPushing)) return false;
  }
  return cell_at(at).word.load(std::memory_order_relaxed) == claim;
}

QueueRing::Census QueueRing::census() const {
  Census census;
  const auto refuse = [&](const char* problem) {
    if (census.problem == nullptr) census.problem = problem;
  };
  uint64_t tail = begin(hints_->tail);
  const uint64_t first = begin(hints_->head);
  uint64_t oldest = tail;
  // Behind the tail's hint the claims end at the first cell that this round has not reached.
  for (uint64_t steps = 0; rounds_ahead(cell_at(tail).word.load(std::memory_order_acquire), tail) >= 0; ++steps) {
    const uint64_t word = cell_at(tail).word.load(std::memory_order_acquire);
    if (rounds_ahead(word, tail) == 0 && state_of(word) == kEmpty) break;
    tail = next(tail);
    if (steps > 2 * capacity_) {
      refuse("the tail is nowhere");
      return census;
    }
  }
  oldest = tail;
  uint64_t taken = 0;  // cells without a value since the last one met: lost, if an older one stands before them
  for (uint64_t i = 0; i < capacity_; ++i) {
    oldest = (oldest & index_mask_) == 0 ? later(oldest & ~index_mask_, -1) + capacity_ - 1 : oldest - 1;
    if (static_cast<int64_t>(oldest) < 0) break;
    const uint64_t word = cell_at(oldest).word.load(std::memory_order_acquire);
    const int64_t ahead = rounds_ahead(word, oldest);
    const State state = state_of(word);
    if (ahead == 0 && (state == kFull || state == kPopping)) {
      ++census.values;
      census.lost += taken;
      taken = 0;
      if (oldest < first) refuse("the head is ahead of a value");
    } else if ((ahead == 0 && state == kPushing) || (ahead == 1 && state == kEmpty)) {
      ++taken;
    } else {
      refuse("a cell's word does not fit its place between head and tail");
    }
  }
  if (first > tail) refuse("the head is ahead of the tail");
  return census;
}

}  // namespace skep
