// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "machine/crash_point.h"
#include "machine/lease.h"
#include "machine/machine.h"
#include "memory/segment.h"

namespace skep {

/// The word that says what a cell of a slab is. The upper two bits are the state, the others what it means.
class CellWord {
 public:
  enum State : uint64_t {
    kFree = 0,     // nobody has it
    kClaimed = 1,  // the process with that ProcessTag fills it, or takes it apart, and nobody else knows of it
    kLive = 2,     // in use: the rest is the user's
    kRetired = 3,  // unlinked; free when that epoch has elapsed
  };
  static constexpr uint64_t kMeaning = (uint64_t{1} << 62) - 1;

  static constexpr uint64_t claimed(ProcessTag process) { return uint64_t{kClaimed} << 62 | process.value; }
  static constexpr uint64_t live(uint64_t meaning) { return uint64_t{kLive} << 62 | meaning; }
  static constexpr uint64_t retired(Machine::Epoch epoch) { return uint64_t{kRetired} << 62 | epoch; }
  static constexpr State state(uint64_t word) { return static_cast<State>(word >> 62); }
  static constexpr uint64_t meaning(uint64_t word) { return word & kMeaning; }
};

/// Where the parts of a slab stand in a window.
struct SlabLayout {
  uint64_t head = 0;    // SlabHead
  uint64_t hints = 0;   // SlabHint for each slot
  uint64_t chunks = 0;  // SlabChunk for each chunk
  uint64_t states = 0;  // a word for each cell
  uint64_t cells = 0;
  uint64_t end = 0;
  uint64_t stride = 0;  // bytes from a cell to the next, a multiple of 8
  uint32_t capacity = 0;
  uint32_t chunk_cells = 0;  // a power of two
  uint32_t chunk_count = 0;
  uint32_t slots = 0;

  /// For at most `capacity` cells of `stride` bytes; chunks of about `chunk_bytes`. `begin` is a multiple of 4096.
  static SlabLayout make(uint64_t begin, uint64_t stride, uint32_t capacity, uint64_t chunk_bytes, uint32_t slots);
  /// What must have memory from the beginning: [head, states).
  [[nodiscard]] uint64_t fixed_bytes() const { return states - head; }
};

struct alignas(64) SlabHead {
  std::atomic<uint32_t> chunks_seen;  // chunks from 0 to this one ever had memory
  std::atomic<uint32_t> trim_cursor;  // chunk that trim() looks at next: a hint
  std::atomic<uint32_t> spare;        // chunk + 1 that trim() left although it was empty: a hint
};

/// Where a slot looks for a free cell first. Written by the slot's holder; a stale one costs a search.
struct alignas(64) SlabHint {
  std::atomic<uint32_t> next;  // cell
};

struct SlabChunk {
  enum : uint32_t { kAbsent = 0, kReady = 1, kMoving = 2 };
  static constexpr uint64_t moving(ProcessTag process) { return uint64_t{process.value} << 32 | kMoving; }
  std::atomic<uint64_t> state;   // kAbsent, kReady or moving(who brings its memory or takes it away)
  std::atomic<uint32_t> free;    // about how many cells are free or retired: a hint
  std::atomic<uint32_t> tenant;  // slot + 1 that fills the chunk: a hint
};
static_assert(sizeof(SlabChunk) == 16);

/// Cells of one size in a segment that many processes share, whose memory comes and goes with their number.
///
/// Layout (each cell has a word elsewhere, so that looking for a free one touches eight at a time):
///
///     head    [ chunks seen ]
///     hints   [ slot 0 ][ slot 1 ] ...                      where each slot goes on looking
///     chunks  [ ready, 17 free ][ ready, 512 free ][ absent ] ...
///     states  [ live | live | free | retired 84 | ... ]     a word a cell: the truth
///     cells   [ .... ][ .... ][ .... ][ .... ]              bytes a cell: the user's
///
/// Operations: claim -> publish (or give back); retire; sweep (a bounded look for what the dead left).
///
/// Invariants
///   S1 The word alone says what a cell is. No list names it, so a process may die between any two stores: what it had
///      claimed is named by its tag and found by the sweep, and what it had published is found by whoever it was for.
///   S2 A cell changes hands by a compare-and-swap of its word (claim), or by a store of the only one who may (who
///      claimed it; who holds the lock of what it belongs to).
///   S3 A retired cell keeps its bytes until its epoch has elapsed.
///   S4 A cell whose word is not free lies in a chunk that has memory.
/// Ordering guarantees
///   O1 What was written into a cell before publish() is seen by whoever sees the word live.
///   O2 Whoever could reach a cell when it was retired has left its section before the cell is claimed again.
/// Progress: lock-free; claim() makes at most a few rounds over the chunks.
/// Reclamation: memory of a chunk all of whose cells are free goes back to the file system (trim()); one such chunk is
///   kept. The words of a chunk keep their memory: who lost a race for a cell reads them still.
/// Limits and errno: ENOMEM: no memory for another chunk, or every cell is in use or waits for a grace period.
class Slab {
 public:
  Slab(const SlabLayout& layout, const Segment& window, Machine& machine);

  /// A cell of the caller's own, with whatever bytes its last owner left in it. ENOMEM.
  [[gnu::always_inline]] Result<uint32_t> claim(const Lease& lease) {
    SlabHint& hint = hints_[lease.slot()];
    const uint32_t first = load(hint.next);
    if (first < layout_.capacity && claim_at(first, lease.process())) [[likely]] {
      hint.next.store(first + 1, std::memory_order_relaxed);
      return first;
    }
    return claim_slowly(lease, hint);
  }
  /// The commit store of a claimed cell: it is live with that meaning.
  void publish(uint32_t cell, uint64_t meaning) { commit(states_[cell], CellWord::live(meaning)); }
  /// A claimed cell that was never published.
  void give_back(uint32_t cell) { commit(states_[cell], CellWord::kFree); }
  /// A live cell that the caller alone may retire and has made unreachable, with a locked instruction since.
  void retire(uint32_t cell) {
    commit(states_[cell], CellWord::retired(machine_.next_grace_period()));
    count_free(cell);
  }
  /// The same of a cell that others may be retiring too; whether it was this call.
  bool retire_once(uint32_t cell, uint64_t meaning);

  [[nodiscard]] std::byte* bytes(uint32_t cell) const { return cells_ + cell * layout_.stride; }
  /// The meaning of a live cell; 0 where it is not one.
  [[nodiscard]] uint64_t meaning(uint32_t cell) const {
    const uint64_t word = states_[cell].load(std::memory_order_acquire);  // pairs with publish()
    return CellWord::state(word) == CellWord::kLive ? CellWord::meaning(word) : 0;
  }
  [[nodiscard]] const SlabLayout& layout() const { return layout_; }
  /// Cells from 0 to this one were ever in use; a bound for walks.
  [[nodiscard]] uint32_t seen() const {
    // Acquire pairs with the release in add_chunk().
    return std::min(head_.chunks_seen.load(std::memory_order_acquire), layout_.chunk_count) * layout_.chunk_cells;
  }

  /// Looks at up to `count` cells from where the last call stopped: frees what dead processes had claimed, and hands
  /// live ones to visit(cell, meaning).
  template <class Visitor>
  void sweep(const Lease& lease, std::atomic<uint32_t>& cursor, uint32_t count, const Visitor& visit) {
    for (; count > 0; --count) {
      const uint32_t cell = next_to_sweep(cursor);
      if (cell == kNone) return;
      if (const uint64_t what = look_at(lease, cell); what != 0) visit(cell, what);
    }
  }
  /// Calls visit(cell, meaning) for each live cell from `first` on until it returns false.
  template <class Visitor>
  void for_each_live(uint32_t first, const Visitor& visit) const {
    const uint32_t end = seen();
    for (uint32_t cell = first; cell < end; ++cell) {
      if (cell % layout_.chunk_cells == 0 && !has_memory(cell)) {
        cell += layout_.chunk_cells - 1;
        continue;
      }
      if (const uint64_t what = meaning(cell); what != 0 && !visit(cell, what)) return;
    }
  }
  /// Looks at the chunk behind the one that the last call looked at: counts what is free there, and gives its memory
  /// back if no cell is in use and another such chunk is left. Whether it did.
  bool trim(const Lease& lease);

  struct Census {
    uint32_t free = 0, claimed = 0, live = 0, retired = 0, chunks = 0;
  };
  /// Counts; exact while nobody changes anything.
  [[nodiscard]] Census census() const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  [[nodiscard]] uint32_t chunk_of(uint32_t cell) const { return cell / layout_.chunk_cells; }
  [[nodiscard]] bool has_memory(uint32_t cell) const {
    return static_cast<uint32_t>(chunks_[chunk_of(cell)].state.load(std::memory_order_acquire)) != SlabChunk::kAbsent;
  }
  [[nodiscard]] bool ready(uint32_t chunk) const {
    // seq_cst: trim() stores its state, then looks at words; a claimer swaps a word, then looks at the state.
    return chunks_[chunk].state.load(std::memory_order_seq_cst) == SlabChunk::kReady;
  }
  [[gnu::always_inline]] bool claim_at(uint32_t cell, ProcessTag process) {
    if (!ready(chunk_of(cell))) return false;
    uint64_t word = states_[cell].load(std::memory_order_relaxed);
    if (word != CellWord::kFree && !is_reusable(word)) return false;
    // Acquire pairs with the release of who freed it; seq_cst with trim().
    if (!states_[cell].compare_exchange_strong(word, CellWord::claimed(process), std::memory_order_seq_cst)) {
      return false;
    }
    SKEP_CRASH_POINT();
    if (ready(chunk_of(cell))) [[likely]]
      return true;
    give_back(cell);
    return false;
  }
  [[nodiscard]] bool is_reusable(uint64_t word) const {
    return CellWord::state(word) == CellWord::kRetired && machine_.known_elapsed(static_cast<uint32_t>(word));
  }
  void count_free(uint32_t cell) {
    std::atomic<uint32_t>& free = chunks_[chunk_of(cell)].free;
    free.store(load(free) + 1, std::memory_order_relaxed);
  }

  Result<uint32_t> claim_slowly(const Lease& lease, SlabHint& hint);
  uint32_t claim_in(uint32_t chunk, uint32_t first, const Lease& lease);
  uint32_t claim_in_emptier_chunk(uint32_t after, const Lease& lease);
  uint32_t claim_anywhere(const Lease& lease);
  Result<uint32_t> add_chunk(const Lease& lease);
  [[nodiscard]] uint32_t count_unused(uint32_t chunk) const;
  bool wait_is_over(uint32_t chunk);
  uint32_t next_to_sweep(std::atomic<uint32_t>& cursor) const;
  uint64_t look_at(const Lease& lease, uint32_t cell);
  [[nodiscard]] bool is_dead(uint32_t process) const;
  [[nodiscard]] bool is_spare(uint32_t chunk) const;
  bool begin_leaving(uint32_t chunk, ProcessTag process);
  bool leave(uint32_t chunk, ProcessTag process, bool again);

  const SlabLayout layout_;
  const Segment& window_;
  Machine& machine_;
  SlabHead& head_;
  SlabHint* const hints_;
  SlabChunk* const chunks_;
  std::atomic<uint64_t>* const states_;
  std::byte* const cells_;
};

}  // namespace skep
