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
  static StorageParts& of(Machine& machine);

  void add(const StoragePart& part);
  void remove(const Slab* cells);
  /// Calls use(part) if there is one of that map, which stays mapped meanwhile.
  template <class Use>
  void with(uint32_t map, const Use& use) const {
    const Locked locked;
    for (const StoragePart& part : parts_) {
      if (part.map == map) return use(part);
    }
  }

 private:
  /// The mutex of all of them, which a fork handler holds across fork(2).
  struct Locked {
    Locked();
    ~Locked();
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
  };
  std::vector<StoragePart> parts_;
};

}  // namespace skep
