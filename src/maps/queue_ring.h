// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "machine/lease.h"
#include "memory/result.h"

namespace skep {

/// What it is: a bounded first-in-first-out queue of values of one size, for any number of producers and consumers in
///   any number of processes, without a lock over the whole. Each cell of the ring says itself what may be done with
///   it; a claim names the process that made it.
///
/// Layout
///
///   | tail u64, 64 B | head u64, 64 B | cell 0 | cell 1 | ... | cell capacity - 1 |
///   cell: | word u64 | value, rounded up to 8 |
///
///   position = round << index bits | index: the n-th push ever goes to position number n, in round n / capacity
///   word, bits 1..0:  0 empty    63..2: the round that may be pushed next
///                     1 full     63..2: the round of its value
///                     2 pushing  63..34: the round, modulo 2^30; 33..2: ProcessTag of the producer
///                     3 popping  likewise, of the consumer
///   A cell's words:   empty(r) -> pushing(r) -> full(r) -> empty(r + 1) -> ...; zeros are an empty queue.
///                     full(r) -> pushing(r + 1): the push that drops the oldest, which is in the tail's own cell
///                     full(r) -> popping(r) -> empty(r + 1), or full(r): a reader that was overtaken too often
///
/// Operations: push (optionally dropping the oldest when full), pop, peek.
///
/// Invariants
///   1. Positions are claimed by pushes in order, each exactly once: the compare-and-swap of a cell from empty(r) is
///      tried at the first position only that was not claimed, and a cell never has a word twice.
///   2. Positions are consumed in order, but for those that a dead producer left: such a cell goes from pushing(r) to
///      empty(r + 1) wherever it stands, and consumers pass over it.
///   3. `tail` and `head` are hints, never ahead of the truth: they are stored after what they say has happened. Old
///      ones cost steps, at most two times round the ring, since cells tell their round.
///   4. The value of a cell is written while its word is pushing(r), by the claim's owner, and constant while full(r).
///
/// Ordering guarantees
///   O1. A pop gives a value whole, and each value goes to one consumer: COMMIT of a push is the store of full(r); of a
///       pop, the compare-and-swap to empty(r + 1), which fails when anything happened to the cell since the value was
///       copied; of a pop that claimed the cell, the store of empty(r + 1).
///   O2. First in, first out, by the order of claims. A push that has returned is seen by every later pop and peek.
///   O3. Exactly `capacity` values fit: the tail's cell is full(r - 1) if and only if all cells are taken. ENOENT and
///       E2BIG are true at one moment of the call.
///   O4. A full push that drops does both in one step: nobody can push or pop in between.
///
/// Progress: pushes into different cells do not wait for each other. Pop and peek wait for a push that has claimed the
///   oldest position and not yet committed, if a value stands behind it; a push waits for one that has claimed the
///   cell a whole round before. Both wait until the other side has copied one value. A reader whose copy was overtaken
///   kAttempts times claims the cell, so that producers that drop cannot starve it.
///   A claimant that is dead is found by whoever waits for it (alive() after 200 microseconds) and its claim undone by
///   one compare-and-swap, any number may try: pushing(r) becomes empty(r + 1), as if the push had never been, and
///   popping(r) becomes full(r) again. One that lives but does not move (SIGSTOP) delays others 5 seconds: ETIMEDOUT.
/// Reclamation: none. Locks: none.
///
/// Limits and errno: E2BIG full; ENOENT empty; ETIMEDOUT as above; EDEADLK: a signal handler of this thread interrupted
///   the very push that it would wait for; EIO: the words contradict each other, somebody else wrote into the map.
///   A cell that a dead producer left counts against the capacity as long as there are older values.
///   2^30 rounds while one process is stopped between two instructions: not distinguished.
/// Differs from the kernel: there one lock serialises everything. Here a producer that is killed within its push may
///   have dropped the oldest value already.
class QueueRing {
 public:
  static constexpr uint32_t kAttempts = 32;

  /// Bytes that a ring needs, zeroed.
  static uint64_t size_of(uint32_t capacity, uint32_t value_size);

  QueueRing(std::byte* area, uint32_t capacity, uint32_t value_size, bool writable, Machine& machine);

  /// `overwrite`: when full, drops the oldest value instead of failing with E2BIG.
  Status push(const Lease& lease, const void* value, bool overwrite);
  /// Undefined bytes in `value` when it fails.
  Status pop(const Lease& lease, void* value);
  Status peek(void* value) const;

  /// Counts and checks every cell; for a ring that nobody changes.
  struct Census {
    uint64_t values = 0;
    uint64_t lost = 0;              // cells that dead producers left, with an older value before them
    const char* problem = nullptr;  // the first broken invariant
  };
  [[nodiscard]] Census census() const;

 private:
  enum State : uint64_t { kEmpty = 0, kFull = 1, kPushing = 2, kPopping = 3 };
  struct Hint {
    alignas(kCacheLine) std::atomic<uint64_t> position;
  };
  struct Hints {
    Hint tail;
    Hint head;
  };
  struct Cell {
    std::atomic<uint64_t> word;
    [[nodiscard]] std::byte* value() { return reinterpret_cast<std::byte*>(this + 1); }
  };
  static constexpr uint32_t kStateBits = 2;
  static constexpr uint32_t kClaimShift = 34;
  class ClaimWait;
  class Claim;

  [[nodiscard]] Cell& cell_at(uint64_t position) const {
    return *reinterpret_cast<Cell*>(cells_ + (position & index_mask_) * stride_);
  }
  [[nodiscard]] uint64_t round(uint64_t position) const { return position >> index_bits_; }
  [[nodiscard]] uint64_t next(uint64_t position) const {
    return (position & index_mask_) + 1 == capacity_ ? (position | index_mask_) + 1 : position + 1;
  }
  /// The same cell, `rounds` later.
  [[nodiscard]] uint64_t later(uint64_t position, int64_t rounds) const {
    return position + (static_cast<uint64_t>(rounds) << index_bits_);
  }
  [[nodiscard]] uint64_t empty_word(uint64_t position) const { return round(position) << kStateBits | kEmpty; }
  [[nodiscard]] uint64_t full_word(uint64_t position) const { return round(position) << kStateBits | kFull; }
  [[nodiscard]] uint64_t claim_word(uint64_t position, State state, ProcessTag process) const {
    return round(position) << kClaimShift | uint64_t{process.value} << kStateBits | state;
  }
  static State state_of(uint64_t word) { return static_cast<State>(word & 3); }
  /// By how many rounds the cell is ahead of `position`.
  [[nodiscard]] int64_t rounds_ahead(uint64_t word, uint64_t position) const;
  /// Where a walk begins: a hint, or a position that exists if somebody wrote nonsense there.
  [[nodiscard]] uint64_t begin(const Hint& hint) const;

  Status push_slowly(ProcessTag self, const void* value, bool overwrite);
  Status pop_slowly(ProcessTag self, void* value);
  int pass_to_push(uint64_t& at, uint64_t word, bool overwrite, ClaimWait& wait) const;
  int pass_to_read(uint64_t& at, uint64_t word, ClaimWait& wait) const;
  [[nodiscard]] bool nothing_behind(uint64_t at, uint64_t claim) const;
  [[nodiscard]] Status read_claimed(ProcessTag process, uint64_t at, uint64_t word, void* value, bool consume) const;
  void fill(Cell& cell, uint64_t at, const void* value) const;
  void take_out(Cell& cell, void* value) const;

  Hints* const hints_;
  std::byte* const cells_;
  const uint64_t capacity_;
  const uint32_t value_size_;
  const uint64_t stride_;
  const uint32_t index_bits_;
  const uint64_t index_mask_;
  const bool writable_;
  Machine& machine_;
};

}  // namespace skep
