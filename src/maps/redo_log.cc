// SPDX-License-Identifier: Apache-2.0
#include "maps/redo_log.h"

#include <algorithm>

namespace skep {

bool RedoLog::repair() {
  if ((sequence() & 1) == 0) return false;
  const ValueRange range = load_range();
  // A record that no skep wrote: there is nothing to complete.
  if (!within(range)) {
    record_.sequence.store(sequence() + 1, std::memory_order_release);
    return false;
  }
  apply(range, NoProbe{});
  return true;
}

ValueRange RedoLog::load_range() const {
  return {.element = record_.element.load(std::memory_order_relaxed),
          .first_piece = record_.first_piece.load(std::memory_order_relaxed),
          .pieces = record_.pieces.load(std::memory_order_relaxed),
          .piece_size = record_.piece_size.load(std::memory_order_relaxed)};
}

bool RedoLog::within(const ValueRange& range) const {
  return range.element < places_.elements && range.pieces <= places_.pieces &&
         range.first_piece <= places_.pieces - range.pieces && range.piece_size <= places_.piece_room;
}

void RedoLog::overlay(const ValueRange& range, void* to, uint64_t to_stride) const {
  // What is loaded here may belong to a later write; then validate() fails, and within() keeps this inside the record.
  const ValueRange committed = load_range();
  if (committed.element != range.element || !within(committed)) return;
  const uint32_t begin = std::max(range.first_piece, committed.first_piece);
  const uint32_t end = std::min(range.first_piece + range.pieces, committed.first_piece + committed.pieces);
  const uint32_t size = std::min(range.piece_size, committed.piece_size);
  for (uint32_t piece = begin; piece < end; ++piece) {
    copy_from_shared(static_cast<std::byte*>(to) + (piece - range.first_piece) * to_stride,
                     staged(piece - committed.first_piece), size);
  }
}

}  // namespace skep
