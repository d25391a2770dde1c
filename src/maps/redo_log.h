// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "maps/field_gaps.h"

namespace skep {

/// Where the values of a map stand in this process, and how one value is made of pieces (one per CPU, or only one):
/// piece p of element e is at base + p * piece_stride + e * element_stride. All strides are multiples of 8.
struct ValuePlaces {
  std::byte* base;
  uint64_t elements;
  uint64_t element_stride;
  uint64_t piece_stride;
  uint32_t pieces;
  uint32_t piece_room;  // bytes that belong to one piece, padding included

  [[nodiscard]] std::byte* at(uint64_t element, uint32_t piece) const {
    return base + piece * piece_stride + element * element_stride;
  }
};

/// Which part of which element an operation is about.
struct ValueRange {
  uint64_t element;
  uint32_t first_piece;
  uint32_t pieces;
  uint32_t piece_size;  // bytes of each piece, at most piece_room
};

/// A redo log of one entry: makes an in-place write of a value all-or-nothing, for readers and across kill -9.
///
/// What it is: a writer that has exclusive use of the record (by some lock) first puts the new bytes into the record's
/// staging area, then commits with one store, then copies them into place. Whoever dies before the commit changed
/// nothing; for whoever dies behind it, the next holder of that lock copies again. A reader never waits: it reads in
/// place while nothing is committed, and the staging area while something is.
///
/// Layout
///   | sequence u64 | element u64 | first_piece u32 | pieces u32 | piece_size u32 | 0 u32 | staging: pieces x
///   piece_room |
///
/// Operations: write (stage, commit, apply), repair, read.
///
/// Invariants
///   I1 sequence only grows. Even: the places rule. Odd: element, pieces and staging rule for that range.
///   I2 Only the lock's holder writes the record, and the places only while sequence is odd.
///   I3 staging and range are constant while sequence is odd; the places are constant while it is even.
/// Ordering guarantees
///   O1 A read that validates returns bytes that one write put there, or that stood there, never a mixture.
///   O2 A read that starts after write() returned sees that write or a later one.
///   O3 After repair() a value is what it was before the dead holder's write, or what that one wrote.
/// Progress: readers are lock-free (a read fails only when a write moved on meanwhile) and do not depend on a writer
///   being alive or running. Writers: as their lock.
/// Locks: the caller's, from write() or repair() begin to end.
/// Limits: programs that write through pointers are not part of the protocol, as in the kernel.
struct RedoRecord {
  std::atomic<uint64_t> sequence;
  std::atomic<uint64_t> element;
  std::atomic<uint32_t> first_piece;
  std::atomic<uint32_t> pieces;
  std::atomic<uint32_t> piece_size;
  uint32_t reserved;
};
static_assert(sizeof(RedoRecord) == 32);

/// Does nothing where a test wants to die. Tests give write() a probe of their own.
struct NoProbe {
  static constexpr bool kEnabled = false;
  void operator()() const {}
};

/// A record and its staging area, as one process sees them.
class RedoLog {
 public:
  RedoLog(RedoRecord& record, std::byte* staging, const ValuePlaces& places, const FieldGaps& gaps)
      : record_(record), staging_(staging), places_(places), gaps_(gaps) {}

  /// Bytes of staging that a record for `places` needs.
  static uint64_t staging_size(uint32_t pieces, uint32_t piece_room) { return uint64_t{pieces} * piece_room; }

  /// Writes `range`; piece i comes from `from` + i * from_stride (0: the same bytes for every piece).
  template <class Probe = NoProbe>
  void write(const ValueRange& range, const void* from, uint64_t from_stride, const Probe& probe = {}) {
    // Readers of the previous commit read the staging area; they find sequence even again (apply() stored that before
    // this fence) if they see any of the bytes stored below. Pairs with the acquire fence in validate().
    std::atomic_thread_fence(std::memory_order_release);
    record_.element.store(range.element, std::memory_order_relaxed);
    record_.first_piece.store(range.first_piece, std::memory_order_relaxed);
    record_.pieces.store(range.pieces, std::memory_order_relaxed);
    record_.piece_size.store(range.piece_size, std::memory_order_relaxed);
    probe();
    for (uint32_t i = 0; i < range.pieces; ++i) {
      gaps_.copy_cleared(staged(i), static_cast<const std::byte*>(from) + i * from_stride, range.piece_size);
      probe();
    }
    // COMMIT. Release: the staged bytes are there for whoever sees it; pairs with the acquire in begin_read().
    record_.sequence.store(sequence() + 1, std::memory_order_release);
    probe();
    apply(range, probe);
  }

  /// Completes a committed write that its writer did not; the caller holds the lock. Whether there was one.
  bool repair();

  /// The way of a reader: `const auto mark = begin_read(); copy(range, mark, to); if (!validate(mark)) again`.
  [[nodiscard]] uint64_t begin_read() const { return record_.sequence.load(std::memory_order_acquire); }
  /// Copies `range` out, piece i to `to` + i * to_stride.
  void copy(const ValueRange& range, uint64_t mark, void* to, uint64_t to_stride) const {
    for (uint32_t i = 0; i < range.pieces; ++i) {
      copy_from_shared(static_cast<std::byte*>(to) + i * to_stride, places_.at(range.element, range.first_piece + i),
                       range.piece_size);
    }
    if (mark & 1) [[unlikely]]
      overlay(range, to, to_stride);
  }
  [[nodiscard]] bool validate(uint64_t mark) const {
    // Pairs with the release fences in write() and apply(): a byte from a later phase makes the later sequence visible.
    std::atomic_thread_fence(std::memory_order_acquire);
    return record_.sequence.load(std::memory_order_relaxed) == mark;
  }

  /// Whether a write of `element` has been committed and not completed; then where its new bytes of a piece stand.
  [[nodiscard]] bool is_incomplete(uint64_t element) const {
    return (begin_read() & 1) != 0 && record_.element.load(std::memory_order_relaxed) == element &&
           within(load_range());
  }
  [[nodiscard]] std::byte* staged(uint32_t piece) const { return staging_ + uint64_t{piece} * places_.piece_room; }

  /// Whether the record itself is sound; for structural checks.
  [[nodiscard]] bool sound() const { return (sequence() & 1) == 0 || within(load_range()); }

 private:
  [[nodiscard]] uint64_t sequence() const { return record_.sequence.load(std::memory_order_relaxed); }
  [[nodiscard]] ValueRange load_range() const;
  [[nodiscard]] bool within(const ValueRange& range) const;
  void overlay(const ValueRange& range, void* to, uint64_t to_stride) const;

  template <class Probe>
  void apply(const ValueRange& range, const Probe& probe) {
    // The places change only where the odd sequence is visible: pairs with the acquire fence in validate().
    std::atomic_thread_fence(std::memory_order_release);
    for (uint32_t i = 0; i < range.pieces; ++i) {
      std::byte* place = places_.at(range.element, range.first_piece + i);
      if constexpr (Probe::kEnabled) {  // a place half written
        if (!gaps_.any()) copy_to_shared(place, staged(i), range.piece_size / 16 * 8);
        probe();
      }
      gaps_.copy_in(place, staged(i), range.piece_size);
      probe();
    }
    // Release: the places are complete for whoever reads in place again; pairs with the acquire in begin_read().
    record_.sequence.store(sequence() + 1, std::memory_order_release);
    probe();
  }

  RedoRecord& record_;
  std::byte* staging_;
  const ValuePlaces& places_;
  const FieldGaps& gaps_;
};

}  // namespace skep
