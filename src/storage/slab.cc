// SPDX-License-Identifier: Apache-2.0
#include "storage/slab.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "machine/epoch_order.h"

namespace skep {
namespace {

constexpr uint32_t kFewestCells = 8;  // of a chunk
constexpr uint32_t kMostCells = 4096;
/// Chunks with fewer free cells than this part are not worth a search while there is memory for another one.
constexpr uint32_t kWorthwhilePart = 8;
/// How many chunks in vain are searched before another one gets memory: their cells may wait for a long section.
constexpr int kMostSearches = 2;

}  // namespace

SlabLayout SlabLayout::make(uint64_t begin, uint64_t stride, uint32_t capacity, uint64_t chunk_bytes, uint32_t slots) {
  SlabLayout layout;
  layout.stride = stride;
  layout.chunk_cells = std::clamp(std::bit_floor(static_cast<uint32_t>(std::max<uint64_t>(1, chunk_bytes / stride))),
                                  kFewestCells, kMostCells);
  layout.chunk_count = std::max(1U, capacity / layout.chunk_cells);
  layout.capacity = layout.chunk_count * layout.chunk_cells;
  layout.slots = slots;
  layout.head = begin;
  layout.hints = layout.head + sizeof(SlabHead);
  layout.chunks = layout.hints + slots * sizeof(SlabHint);
  layout.states = round_up(layout.chunks + layout.chunk_count * sizeof(SlabChunk), kPageSize);
  layout.cells = round_up(layout.states + layout.capacity * sizeof(uint64_t), kPageSize);
  layout.end = round_up(layout.cells + layout.capacity * stride, kPageSize);
  return layout;
}

Slab::Slab(const SlabLayout& layout, const Segment& window, Machine& machine)
    : layout_(layout),
      window_(window),
      machine_(machine),
      head_(*reinterpret_cast<SlabHead*>(window.data() + layout.head)),
      hints_(reinterpret_cast<SlabHint*>(window.data() + layout.hints)),
      chunks_(reinterpret_cast<SlabChunk*>(window.data() + layout.chunks)),
      states_(reinterpret_cast<std::atomic<uint64_t>*>(window.data() + layout.states)),
      cells_(window.data() + layout.cells) {}

bool Slab::retire_once(uint32_t cell, uint64_t meaning) {
  uint64_t word = CellWord::live(meaning);
  if (!states_[cell].compare_exchange_strong(word, CellWord::retired(machine_.next_grace_period()),
                                             std::memory_order_seq_cst)) {
    return false;
  }
  SKEP_CRASH_POINT();
  count_free(cell);
  return true;
}

/// A cell of the chunk at `first` or behind it; kNone: there is none, and the chunk's count is right again.
uint32_t Slab::claim_in(uint32_t chunk, uint32_t first, const Lease& lease) {
  const uint32_t begin = chunk * layout_.chunk_cells;
  const uint32_t end = begin + layout_.chunk_cells;
  const auto try_all = [&] {
    for (uint32_t cell = first; cell < end && ready(chunk); ++cell) {
      if (!claim_at(cell, lease.process())) continue;
      chunks_[chunk].tenant.store(lease.slot() + 1, std::memory_order_relaxed);
      hints_[lease.slot()].next.store(cell + 1 < end ? cell + 1 : begin, std::memory_order_relaxed);
      return cell;
    }
    return kNone;
  };
  if (const uint32_t cell = try_all(); cell != kNone) return cell;
  const uint32_t free = count_unused(chunk);
  first = begin;
  if (free > 0) {
    if (const uint32_t cell = wait_is_over(chunk) ? try_all() : kNone; cell != kNone) return cell;
  }
  chunks_[chunk].free.store(free, std::memory_order_relaxed);
  if (load(chunks_[chunk].tenant) == lease.slot() + 1) chunks_[chunk].tenant.store(0, std::memory_order_relaxed);
  return kNone;
}

uint32_t Slab::count_unused(uint32_t chunk) const {
  uint32_t unused = 0;
  for (uint32_t i = 0; i < layout_.chunk_cells && has_memory(chunk * layout_.chunk_cells); ++i) {
    const auto state = CellWord::state(load(states_[chunk * layout_.chunk_cells + i]));
    unused += state == CellWord::kFree || state == CellWord::kRetired ? 1 : 0;
  }
  return unused;
}

/// Whether every cell of the chunk that was retired by now is out of every reader's sight; begins what is needed for
/// it.
bool Slab::wait_is_over(uint32_t chunk) {
  bool any = false;
  Machine::Epoch latest = 0;
  for (uint32_t i = 0; i < layout_.chunk_cells; ++i) {
    const uint64_t word = load(states_[chunk * layout_.chunk_cells + i]);
    if (CellWord::state(word) != CellWord::kRetired) continue;
    const auto epoch = static_cast<Machine::Epoch>(word);
    if (!any || epoch_before(latest, epoch)) latest = epoch;
    any = true;
  }
  return !any || machine_.elapsed(latest);
}

uint32_t Slab::claim_in_emptier_chunk(uint32_t after, const Lease& lease) {
  const uint32_t count = seen() / layout_.chunk_cells;
  const uint32_t worthwhile = std::max(1U, layout_.chunk_cells / kWorthwhilePart);
  int searches = 0;
  for (uint32_t i = 1; i <= count && searches < kMostSearches; ++i) {
    const uint32_t number = (after + i) % count;
    const SlabChunk& chunk = chunks_[number];
    const uint32_t tenant = load(chunk.tenant);
    if (!ready(number) || load(chunk.free) < worthwhile || (tenant != 0 && tenant != lease.slot() + 1)) continue;
    const uint32_t first = number * layout_.chunk_cells;
    ++searches;
    if (const uint32_t cell = claim_in(number, first, lease); cell != kNone) return cell;
  }
  return kNone;
}

/// Where there is no memory for more: in every chunk, after whatever the dead left there has been freed.
uint32_t Slab::claim_anywhere(const Lease& lease) {
  const uint32_t count = seen() / layout_.chunk_cells;
  for (uint32_t number = 0; number < count; ++number) {
    const uint32_t first = number * layout_.chunk_cells;
    if (!has_memory(first)) continue;
    for (uint32_t i = 0; i < layout_.chunk_cells; ++i) look_at(lease, first + i);
    if (const uint32_t cell = claim_in(number, first, lease); cell != kNone) return cell;
  }
  return kNone;
}

/// Gives memory to a chunk that nobody else gives memory to meanwhile: what one takes back because there is not enough
/// is nobody's. A chunk whose bringer died is found by look_at(), since it counts as seen from before it is taken.
Result<uint32_t> Slab::add_chunk(const Lease& lease) {
  for (uint32_t number = 0; number < layout_.chunk_count; ++number) {
    SlabChunk& chunk = chunks_[number];
    uint64_t state = chunk.state.load(std::memory_order_relaxed);
    if (state != SlabChunk::kAbsent) continue;
    const uint64_t first = uint64_t{number} * layout_.chunk_cells;
    const uint64_t cells = layout_.cells + first * layout_.stride;
    const uint64_t length = layout_.chunk_cells * layout_.stride;
    if (auto status = window_.reserve(layout_.states + first * 8, uint64_t{layout_.chunk_cells} * 8); !status) {
      return std::unexpected(status.error());
    }
    uint32_t seen = load(head_.chunks_seen);
    while (seen < number + 1 && !head_.chunks_seen.compare_exchange_weak(seen, number + 1, std::memory_order_release)) {
    }
    if (!chunk.state.compare_exchange_strong(state, SlabChunk::moving(lease.process()), std::memory_order_seq_cst)) {
      continue;
    }
    SKEP_CRASH_POINT();
    const Status status = window_.reserve(cells, length);
    if (!status) {
      window_.give_back(cells, length);
      commit(chunk.state, SlabChunk::kAbsent);
      return std::unexpected(status.error());
    }
    chunk.free.store(layout_.chunk_cells, std::memory_order_relaxed);
    commit(chunk.state, SlabChunk::kReady);  // release: whoever sees the chunk ready may touch it
    return number;
  }
  return fail(ENOMEM);
}

Result<uint32_t> Slab::claim_slowly(const Lease& lease, SlabHint& hint) {
  constexpr int kRounds = 3;  // another slot may empty the chunk that this one added
  const uint32_t hinted = std::min(load(hint.next), layout_.capacity - 1);
  uint32_t cell = claim_in(chunk_of(hinted), hinted, lease);
  for (int round = 0; cell == kNone && round < kRounds; ++round) {
    cell = claim_in_emptier_chunk(chunk_of(hinted), lease);
    if (cell != kNone) break;
    const auto chunk = add_chunk(lease);
    if (!chunk) {
      cell = claim_anywhere(lease);
      if (cell == kNone) return std::unexpected(chunk.error());
    } else {
      cell = claim_in(*chunk, *chunk * layout_.chunk_cells, lease);
    }
  }
  if (cell == kNone) return fail(ENOMEM);
  return cell;
}

bool Slab::is_dead(uint32_t process) const { return process == 0 || !machine_.alive({process}); }

uint32_t Slab::next_to_sweep(std::atomic<uint32_t>& cursor) const {
  const uint32_t end = seen();
  if (end == 0) return kNone;
  uint32_t cell = load(cursor) % end;
  for (uint32_t skipped = 0; !has_memory(cell); ++skipped) {
    if (skipped > end / layout_.chunk_cells) return kNone;
    cell = (chunk_of(cell) + 1) * layout_.chunk_cells % end;
  }
  cursor.store(cell + 1, std::memory_order_relaxed);
  return cell;
}

/// Frees the cell if it is a dead process's; its meaning if it is live, else 0.
uint64_t Slab::look_at(const Lease& lease, uint32_t cell) {
  const uint32_t chunk = chunk_of(cell);
  uint64_t state = chunks_[chunk].state.load(std::memory_order_relaxed);
  if (static_cast<uint32_t>(state) == SlabChunk::kMoving && is_dead(static_cast<uint32_t>(state >> 32))) {
    const uint64_t mine = SlabChunk::moving(lease.process());
    if (chunks_[chunk].state.compare_exchange_strong(state, mine, std::memory_order_seq_cst)) {
      leave(chunk, lease.process(), true);
    }
    return 0;
  }
  uint64_t word = states_[cell].load(std::memory_order_acquire);
  switch (CellWord::state(word)) {
    case CellWord::kLive:
      return CellWord::meaning(word);
    case CellWord::kClaimed:
      if (is_dead(static_cast<uint32_t>(word)) &&
          states_[cell].compare_exchange_strong(word, CellWord::kFree, std::memory_order_acq_rel)) {
        count_free(cell);
      }
      return 0;
    default:
      return 0;
  }
}

bool Slab::begin_leaving(uint32_t chunk, ProcessTag process) {
  uint64_t state = SlabChunk::kReady;
  if (!chunks_[chunk].state.compare_exchange_strong(state, SlabChunk::moving(process), std::memory_order_seq_cst)) {
    return false;
  }
  SKEP_CRASH_POINT();
  return leave(chunk, process, false);
}

/// With the chunk marked as moving by this process: claims every cell, and gives the memory back if all could be had.
/// `again`: in place of a dead process, whose claims are taken over, and which may have given the memory back already.
bool Slab::leave(uint32_t chunk, ProcessTag process, bool again) {
  const uint32_t first = chunk * layout_.chunk_cells;
  const uint64_t cells = layout_.cells + first * layout_.stride;
  const uint64_t length = layout_.chunk_cells * layout_.stride;
  uint32_t claimed = 0;
  for (; claimed < layout_.chunk_cells; ++claimed) {
    std::atomic<uint64_t>& state = states_[first + claimed];
    uint64_t word = state.load(std::memory_order_relaxed);
    const bool left = again && CellWord::state(word) == CellWord::kClaimed && is_dead(static_cast<uint32_t>(word));
    if (word != CellWord::kFree && !is_reusable(word) && !left) break;
    if (!state.compare_exchange_strong(word, CellWord::claimed(process), std::memory_order_seq_cst)) break;
    SKEP_CRASH_POINT();
  }
  const bool all = claimed == layout_.chunk_cells;
  if (all) window_.give_back(cells, length);
  const bool has_memory = !all && (!again || window_.reserve(cells, length));
  for (uint32_t i = 0; i < claimed; ++i) give_back(first + i);
  // Who finds the chunk left by nobody tries again.
  const uint64_t next = all          ? uint64_t{SlabChunk::kAbsent}
                        : has_memory ? uint64_t{SlabChunk::kReady}
                                     : SlabChunk::moving(ProcessTag{});
  chunks_[chunk].state.store(next, std::memory_order_seq_cst);
  SKEP_CRASH_POINT();
  return all;
}

bool Slab::is_spare(uint32_t chunk) const {
  return chunk * uint64_t{layout_.chunk_cells} < seen() && ready(chunk) &&
         load(chunks_[chunk].free) >= layout_.chunk_cells;
}

bool Slab::trim(const Lease& lease) {
  const uint32_t count = seen() / layout_.chunk_cells;
  if (count < 2) return false;
  uint32_t number = load(head_.trim_cursor) % count;
  for (uint32_t i = 0; i < count && !ready(number); ++i) number = (number + 1) % count;
  head_.trim_cursor.store(number + 1, std::memory_order_relaxed);
  if (!ready(number)) return false;
  // Counts of different processes go lost among each other: this is where they become right again.
  const uint32_t free = count_unused(number);
  chunks_[number].free.store(free, std::memory_order_relaxed);
  if (free < layout_.chunk_cells) return false;
  const uint32_t spare = load(head_.spare) - 1;
  if (spare == number || !is_spare(spare)) {
    head_.spare.store(number + 1, std::memory_order_relaxed);
    return false;
  }
  wait_is_over(number);
  return begin_leaving(number, lease.process());
}

Slab::Census Slab::census() const {
  Census census;
  for (uint32_t cell = 0, end = seen(); cell < end; ++cell) {
    if (!has_memory(cell)) {
      cell = (chunk_of(cell) + 1) * layout_.chunk_cells - 1;
      continue;
    }
    if (cell % layout_.chunk_cells == 0) ++census.chunks;
    switch (CellWord::state(load(states_[cell]))) {
      case CellWord::kFree:
        ++census.free;
        break;
      case CellWord::kClaimed:
        ++census.claimed;
        break;
      case CellWord::kLive:
        ++census.live;
        break;
      case CellWord::kRetired:
        ++census.retired;
        break;
    }
  }
  return census;
}

}  // namespace skep
