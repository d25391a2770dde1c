// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "machine/holder_lock.h"
#include "machine/lease.h"
#include "maps/redo_log.h"
#include "memory/result.h"
#include "memory/segment.h"

namespace skep {

/// What it is: in-place writes and untorn copying reads of the values of an array, whatever their size.
///
/// Layout: a row of stripes in the control data; element e belongs to stripe e mod stripes.
///
///   stripe:  | lock u64 | RedoRecord 32 B | 0 (24 B) | staging: pieces x piece_room, rounded up to 64 |
///   lock:    a HolderLock
///
/// The staging area belongs to the stripe and not to the slot, so that its memory is bounded by kStagingBudget (or one
/// value) and not by how many writers a machine has.
///
/// Operations: write, modify (an exclusive read-change-write), read, settle.
/// Invariants: RedoLog's, and I4: the record of an unlocked stripe has an even sequence.
/// Ordering guarantees: RedoLog's O1-O3, and O4: modify() sees the last write before it, and none comes between.
/// Progress: readers never wait for a writer's lock; one that was outrun kReadAttempts times takes it, if it may write.
///   A writer waits for the stripe's holder; if that one is dead it takes the lock over and completes what it had
///   begun.
/// Locks: one stripe, a leaf, taken under a lease. A ValueLock is taken before it.
/// Limits and errno: EDEADLK (this thread holds the stripe), ETIMEDOUT (its live holder does not move).
class StripedValues {
 public:
  static constexpr uint32_t kMostStripes = 256;
  static constexpr uint64_t kStagingBudget = 64 * 1024;
  static constexpr uint32_t kReadAttempts = 64;

  /// How many stripes there are and how large each is.
  struct Plan {
    uint32_t stripes;
    uint64_t stripe_size;
    [[nodiscard]] uint64_t bytes() const { return stripes * stripe_size; }
  };
  static Plan plan(uint32_t max_entries, uint32_t pieces, uint32_t piece_room);

  /// `stripes` points to plan.bytes() zeroed bytes, or bytes that a StripedValues of this plan left.
  StripedValues(std::byte* stripes, const Plan& plan, const ValuePlaces& places, const FieldGaps& gaps, bool writable,
                Machine& machine)
      : stripes_(stripes), plan_(plan), places_(places), gaps_(gaps), writable_(writable), machine_(machine) {}
  StripedValues(const StripedValues&) = delete;
  StripedValues& operator=(const StripedValues&) = delete;

  [[nodiscard]] const ValuePlaces& places() const { return places_; }
  [[nodiscard]] const FieldGaps& gaps() const { return gaps_; }

  /// Replaces `range` by the bytes at `from` (piece i at i * from_stride), all or nothing.
  template <class Probe = NoProbe>
  Status write(const Lease& lease, const ValueRange& range, const void* from, uint64_t from_stride,
               const Probe& probe = {}) {
    const Held held(*this, lease, range.element);
    if (held.error() != 0) return fail(held.error());
    probe();
    log_of(range.element).write(range, from, from_stride, probe);
    return {};
  }

  /// Reads one piece into `scratch` (piece_size bytes), lets `change(scratch)` edit it and writes it, exclusively.
  template <class Change>
  Status modify(const Lease& lease, const ValueRange& range, void* scratch, const Change& change) {
    const Held held(*this, lease, range.element);
    if (held.error() != 0) return fail(held.error());
    RedoLog log = log_of(range.element);
    log.copy(range, 0, scratch, 0);
    gaps_.clear(scratch);
    change(scratch);
    log.write(range, scratch, 0);
    return {};
  }

  /// Copies `range` to `to` (piece i at i * to_stride), untorn. Special fields are copied as they are.
  void read(const ValueRange& range, void* to, uint64_t to_stride) const {
    const RedoLog log = log_of(range.element);
    const uint64_t mark = log.begin_read();
    log.copy(range, mark, to, to_stride);
    if (!log.validate(mark)) [[unlikely]]
      read_contended(range, to, to_stride);
  }

  /// Whether no write of this element's stripe is under way; then a word written directly is not undone by a repair.
  [[nodiscard]] bool quiet(uint64_t element) const { return (log_of(element).begin_read() & 1) == 0; }

  /// Whether a process that died holds the stripe of `element`.
  [[nodiscard]] bool left_by_dead(uint64_t element) const {
    const ProcessTag holder = HolderLock::holder(stripe_of(element).lock);
    return holder != ProcessTag{} && holder != machine_.self() && !machine_.alive(holder);
  }

  /// Waits for the stripe of `element`, completing a dead writer's write.
  Status settle(const Lease& lease, uint64_t element) const {
    const Held held(*this, lease, element);
    return held.error() != 0 ? Status(fail(held.error())) : Status();
  }

  /// The first broken invariant, or null.
  [[nodiscard]] const char* check() const;

 private:
  struct Stripe {
    std::atomic<uint64_t> lock;
    RedoRecord record;
    uint64_t unused[3];
  };
  static_assert(sizeof(Stripe) == kCacheLine);

  /// The lock of an element's stripe, while it lives.
  class Held {
   public:
    Held(const StripedValues& values, const Lease& lease, uint64_t element)
        : stripe_(values.stripe_of(element)), error_(values.lock(lease, stripe_, element)) {}
    ~Held() {
      if (error_ == 0) HolderLock::release(stripe_.lock);
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    [[nodiscard]] int error() const { return error_; }

   private:
    Stripe& stripe_;
    int error_;
  };

  [[nodiscard]] Stripe& stripe_of(uint64_t element) const {
    return *reinterpret_cast<Stripe*>(stripes_ + (element & (plan_.stripes - 1)) * plan_.stripe_size);
  }
  [[nodiscard]] RedoLog log_of(uint64_t element) const {
    Stripe& stripe = stripe_of(element);
    return {stripe.record, reinterpret_cast<std::byte*>(&stripe) + sizeof(Stripe), places_, gaps_};
  }

  /// Takes the stripe and completes what a dead holder left; 0 or an errno.
  int lock(const Lease& lease, Stripe& stripe, uint64_t element) const {
    const auto taken = HolderLock::acquire(lease, stripe.lock);
    if (!taken) return to_int(taken.error());
    // Whoever dies in the repair is found by the next comer in turn, and it can be repeated.
    if (*taken == HolderLock::Taken::kFromDead) log_of(element).repair();
    return 0;
  }
  void read_contended(const ValueRange& range, void* to, uint64_t to_stride) const;

  std::byte* const stripes_;
  const Plan plan_;
  const ValuePlaces places_;
  const FieldGaps gaps_;
  const bool writable_;
  Machine& machine_;
};

}  // namespace skep
