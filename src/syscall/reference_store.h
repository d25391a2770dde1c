// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "maps/map.h"
#include "syscall/reference_kinds.h"

namespace skep {

/// Changes of a map whose entries stand for objects, so that at every instant, whoever dies, each object in the map is
/// alive and none is kept for nothing longer than until the next change.
///
/// Order of an update: link the new object, exchange the word (the commit), unlink the old object, collect it.
/// A process that dies before the commit leaves a link without an entry, one that dies after it the old link: both are
/// one link too many (entry_holds.h). MapHeader::changing counts changes under way; it stays above zero after a death,
/// and the next change that finds the map undisturbed counts entries against links and drops the surplus.
///
/// Any thread and process. Holds no lease while it makes links; takes one for the exchange.
class ReferenceStore {
 public:
  ReferenceStore(Process& process, Map& map, const ReferenceKind& kind) : process_(process), map_(map), kind_(kind) {}

  /// Stores `reference` under `key`. EPERM: the map was frozen meanwhile; errors of Map::exchange() and of the links.
  Status store(const void* key, const Reference& reference, uint64_t flags);
  /// Empties the entry. Errors of Map::take().
  Status erase(const void* key);
  /// Takes a batch out (Map::take_batch), handing `sink` the words; what they stand for is given up afterwards.
  BatchResult take_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags, BatchSink& sink);
  /// Empties every entry.
  Status clear();
  /// Takes out the entries whose words `gone` accepts, unless somebody is changing the map just now.
  void drop_if(const std::function<bool(uint64_t word)>& gone);
  /// Drops the links that belong to no entry, unless somebody is changing the map just now.
  void sweep();

 private:
  class Change;
  void sweep(EntryHolds& holds);
  [[nodiscard]] HeldObject held(uint64_t word) const {
    return kind_.held == nullptr || word == 0 ? HeldObject{} : kind_.held(word);
  }
  /// Which number of a link to try first.
  [[nodiscard]] uint32_t hint(const void* key) const;

  Process& process_;
  Map& map_;
  const ReferenceKind& kind_;
};

}  // namespace skep
