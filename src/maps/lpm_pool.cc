// SPDX-License-Identifier: Apache-2.0
#include "maps/lpm_pool.h"

#include <algorithm>

namespace skep {
namespace {

constexpr uint32_t kBatch = 64;                // retired units that are worth a grace period
constexpr uint32_t kProbes = 8;                // retired units between two questions whether one has elapsed
constexpr uint64_t kLargestIdle = 256 * 1024;  // bytes of a free chunk that may be kept

}  // namespace

LpmPools::LpmPools(const LpmLayout& layout, const Segment& window, Machine& machine)
    : layout_(layout),
      window_(window),
      machine_(machine),
      control_(*reinterpret_cast<LpmControl*>(window.data() + kControlOffset)),
      journal_(control_.journal) {}

uint32_t LpmPools::chunk_size(uint32_t pool, uint32_t chunk) const {
  const LpmLayout::Pool& p = layout_.pools[pool];
  return std::min(1U << p.chunk_shift, p.capacity - (chunk << p.chunk_shift));
}

ByteRange LpmPools::memory_part(uint32_t pool, uint32_t chunk, uint32_t part) const {
  const LpmLayout::Pool& p = layout_.pools[pool];
  const uint64_t first = uint64_t{chunk} << p.chunk_shift;
  const uint64_t size = chunk_size(pool, chunk);
  if (part == 0) return {.offset = p.units + first * p.stride, .length = size * p.stride};
  return {.offset = p.links + first * sizeof(uint32_t), .length = size * sizeof(uint32_t)};
}

Status LpmPools::give_memory(uint32_t pool, uint32_t chunk) {
  LpmChunk& c = chunks_of(pool)[chunk];
  commit(c.state, LpmChunk::kMoving);
  const auto status = window_.reserve_all(2, [&](uint32_t part) { return memory_part(pool, chunk, part); });
  SKEP_CRASH_POINT();
  if (!status) {
    commit(c.state, LpmChunk::kAbsent);
    return status;
  }
  commit(c.head, 0);
  commit(c.used, 0);
  commit(c.free, chunk_size(pool, chunk));
  commit(c.state, LpmChunk::kReady);
  return {};
}

void LpmPools::give_back_memory(uint32_t pool, uint32_t chunk) {
  LpmChunk& c = chunks_of(pool)[chunk];
  commit(c.state, LpmChunk::kMoving);
  window_.give_back_all(2, [&](uint32_t part) { return memory_part(pool, chunk, part); });
  commit(c.state, LpmChunk::kAbsent);
}

Result<uint32_t> LpmPools::chunk_with_free(uint32_t pool) {
  LpmPoolState& state = control_.pools[pool];
  LpmChunk* const chunks = chunks_of(pool);
  const uint32_t all = layout_.pools[pool].chunks;
  for (bool reclaimed = false;; reclaimed = true) {
    const uint32_t end = std::min(load(state.end), all);
    uint32_t absent = end;
    for (uint32_t c = load(state.hint); c < end; ++c) {
      if (load(chunks[c].state) != LpmChunk::kReady) {
        absent = std::min(absent, c);
      } else if (load(chunks[c].free) > 0) {
        if (absent == end) commit(state.hint, c);
        return c;
      }
    }
    if (!reclaimed && load(control_.writers.waiting) != 0) {
      reclaim(true);
      continue;
    }
    Status given = absent < all ? give_memory(pool, absent) : Status(fail(ENOMEM));
    if (given) {
      if (absent == end) commit(state.end, end + 1);
      return absent;
    }
    if (reclaimed || load(control_.writers.open) == 0) return std::unexpected(given.error());
    reclaim(true);
  }
}

Result<uint32_t> LpmPools::take(uint32_t pool, uint32_t i) {
  const auto picked = chunk_with_free(pool);
  if (!picked) return std::unexpected(picked.error());
  LpmChunk& chunk = chunks_of(pool)[*picked];
  const uint32_t listed = load(chunk.head);
  const uint32_t number = listed != 0 ? listed - 1 : (*picked << layout_.pools[pool].chunk_shift) + load(chunk.used);
  const uint32_t ref = ref_of(pool, number);
  commit(journal_.taken[i], ref);
  if (listed != 0) {
    commit(chunk.head, load(link(pool, number)));
  } else {
    commit(chunk.used, load(chunk.used) + 1);
  }
  commit(chunk.free, load(chunk.free) - 1);
  if (load(control_.pools[pool].idle) == *picked + 1) commit(control_.pools[pool].idle, 0);
  return ref;
}

void LpmPools::push(uint32_t ref) {
  const uint32_t pool = pool_of(ref), number = number_of(ref);
  LpmChunk& chunk = chunks_of(pool)[number >> layout_.pools[pool].chunk_shift];
  commit(link(pool, number), load(chunk.head));
  commit(chunk.head, number + 1);
  commit(chunk.free, load(chunk.free) + 1);
}

/// A chunk has got a unit back: it may have to go.
void LpmPools::after_push(uint32_t pool, uint32_t chunk) {
  LpmPoolState& state = control_.pools[pool];
  LpmChunk& c = chunks_of(pool)[chunk];
  if (chunk < load(state.hint)) commit(state.hint, chunk);
  const uint32_t size = chunk_size(pool, chunk);
  if (load(c.free) != size || load(c.state) != LpmChunk::kReady) return;
  const LpmLayout::Pool& p = layout_.pools[pool];
  if (load(state.idle) == 0 && size * p.stride <= kLargestIdle) {
    commit(state.idle, chunk + 1);
    return;
  }
  if (load(state.idle) == chunk + 1) return;
  give_back_memory(pool, chunk);
}

void LpmPools::give_back_taken(bool repairing) {
  for (uint32_t i = LpmJournal::kTaken; i-- > 0;) {
    const uint32_t ref = load(journal_.taken[i]);
    if (ref == 0) continue;
    if (!repairing || !in_chunk(ref)) push(ref);
    if (repairing) recount(ref);
    commit(journal_.taken[i], 0);
    after_push(pool_of(ref), number_of(ref) >> layout_.pools[pool_of(ref)].chunk_shift);
  }
}

void LpmPools::forget_taken() {
  for (uint32_t i = LpmJournal::kTaken; i-- > 0;) {
    if (load(journal_.taken[i]) != 0) commit(journal_.taken[i], 0);
  }
}

void LpmPools::retire(uint32_t ref, bool repairing) {
  std::atomic<uint32_t>& open = control_.writers.open;
  if (repairing && load(open) == ref) return;
  commit(link(ref), load(open));
  commit(open, ref);
  commit(control_.writers.open_count, load(control_.writers.open_count) + 1);
}

void LpmPools::reclaim(bool urgent) {
  LpmControl::Writers& lists = control_.writers;
  const uint32_t open = load(lists.open_count);
  if (load(lists.waiting) != 0) {
    if (!urgent && open % kProbes != 0) return;
    if (!machine_.elapsed(load(lists.waiting_epoch))) return;
    release_waiting();
  }
  if (load(lists.open) == 0 || (!urgent && open < kBatch)) return;
  commit(lists.waiting_epoch, machine_.begin_grace_period());
  commit(lists.waiting, load(lists.open));
  commit(lists.open, 0);
  commit(lists.open_count, 0);
}

void LpmPools::release_waiting() {
  std::atomic<uint32_t>& waiting = control_.writers.waiting;
  while (const uint32_t ref = load(waiting)) {
    commit(journal_.moving_next, load(link(ref)));
    commit(journal_.moving, ref);
    commit(waiting, load(journal_.moving_next));
    push(ref);
    commit(journal_.moving, 0);
    after_push(pool_of(ref), number_of(ref) >> layout_.pools[pool_of(ref)].chunk_shift);
  }
}

/// Whether a unit is in its chunk's list or was never taken from it.
bool LpmPools::in_chunk(uint32_t ref) const {
  const uint32_t pool = pool_of(ref), number = number_of(ref), shift = layout_.pools[pool].chunk_shift;
  const uint32_t number_of_chunk = number >> shift;
  const LpmChunk& chunk = chunks_of(pool)[number_of_chunk];
  if (number - (number_of_chunk << shift) >= load(chunk.used)) return true;
  for (uint32_t unit = load(chunk.head); unit != 0; unit = load(link(pool, unit - 1))) {
    if (unit - 1 == number) return true;
  }
  return false;
}

void LpmPools::recount(uint32_t ref) {
  const uint32_t pool = pool_of(ref), number = number_of(ref) >> layout_.pools[pool].chunk_shift;
  LpmChunk& chunk = chunks_of(pool)[number];
  uint32_t free = chunk_size(pool, number) - load(chunk.used);
  for (uint32_t unit = load(chunk.head); unit != 0; unit = load(link(pool, unit - 1))) ++free;
  commit(chunk.free, free);
}

void LpmPools::repair_lists() {
  LpmControl::Writers& lists = control_.writers;
  if (const uint32_t ref = load(journal_.moving); ref != 0) {
    if (load(lists.waiting) == ref) commit(lists.waiting, load(journal_.moving_next));
    if (!in_chunk(ref)) push(ref);
    recount(ref);
    commit(journal_.moving, 0);
  }
  // Units that were about to change lists are on both.
  if (load(lists.open) != 0 && load(lists.open) == load(lists.waiting)) commit(lists.open, 0);
  for (uint32_t p = 0; p < LpmLayout::kPools; ++p) {
    LpmPoolState& state = control_.pools[p];
    commit(state.hint, 0);
    commit(state.idle, 0);
    uint32_t end = 0;
    for (uint32_t c = 0; c < layout_.pools[p].chunks; ++c) {
      if (load(chunks_of(p)[c].state) != LpmChunk::kAbsent) end = c + 1;
    }
    commit(state.end, end);
  }
}

void LpmPools::repair_memory() {
  for (uint32_t p = 0; p < LpmLayout::kPools; ++p) {
    for (uint32_t c = 0; c < load(control_.pools[p].end); ++c) {
      if (load(chunks_of(p)[c].state) == LpmChunk::kMoving) give_back_memory(p, c);
      after_push(p, c);
    }
  }
}

}  // namespace skep
