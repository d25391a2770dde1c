// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "storage/owners.h"

namespace skep {

/// How an application names one of its objects to programs, to other processes and across its own threads: the owner's
/// number and a mark. It is no address (such a one is not canonical), and names nothing once the owner is gone, for
/// numbers are not given twice and each instance begins with one of its own. 0 names nothing.
class ObjectReference {
 public:
  static constexpr uint64_t kMark = uint64_t{1} << 63;

  static constexpr uint64_t to(OwnerNumber number) { return number | kMark; }
  static constexpr bool is(uint64_t value) { return (value & kMark) != 0; }
  static constexpr OwnerNumber number(uint64_t reference) { return reference & ~kMark; }

  /// The object, if it lives, inside the caller's section; other kinds of owners have no references.
  static Owner find(const Owners& owners, uint64_t reference) {
    const Owner owner = is(reference) ? owners.find(number(reference)) : Owner{};
    return owner && owner.record->kind == OwnerKind::kObject ? owner : Owner{};
  }
};

}  // namespace skep
