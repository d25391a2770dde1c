// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "machine/machine.h"
#include "storage/slab.h"

namespace skep {

/// One storage map as this process has it mapped.
struct StoragePart {
  uint32_t map;         // id
  uint32_t cache_slot;  // where owners cache its elements
  uint32_t charge;      // bytes that an element costs its owner
  Slab* cells;          // its elements; the meaning of a live cell is its owner's number
};

/// The storage maps of one machine that this process has mapped, so that an owner's death finds their elements.
/// Safe in any thread, and after fork(2).
class StorageParts {
 public:
  /// The mutex of all machines' parts, for the time of a scope. Fork handlers hold it across fork(2), and no signal
  /// handler interrupts its holder.
  struct Locked {
    Locked();
    ~Locked();
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
  };
  static StorageParts& of(Machine& machine);

  void add(const Locked&, const StoragePart& part) { parts_.push_back(part); }
  void remove(const Slab* cells);
  /// The part of that map, which stays mapped as long as the mutex is held; null: there is none.
  [[nodiscard]] const StoragePart* find(const Locked&, uint32_t map) const {
    for (const StoragePart& part : parts_) {
      if (part.map == map) return &part;
    }
    return nullptr;
  }

 private:
  std::vector<StoragePart> parts_;
};

}  // namespace skep
