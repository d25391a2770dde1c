// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "storage/owner_layout.h"

namespace skep {

/// What elements cost their owner, by the kind of owner, and how much it may have.
///
/// Sockets as in Linux 6.18, to the byte: an element costs 72 bytes and its value, the first one 176 more, and all of a
/// socket's together stay below net.core.optmem_max. Others: what skep uses for it, up to the instance's limit.
struct ChargeRule {
  [[nodiscard]] static uint32_t element(OwnerKind kind, uint32_t value_size);
  /// What an owner is charged as long as it has any element.
  [[nodiscard]] static uint32_t first_element(OwnerKind kind);
  /// Whether an owner that is charged `charged` bytes may have `more`. `limit`: the instance's, 0: none.
  [[nodiscard]] static bool allows(OwnerKind kind, uint64_t charged, uint64_t more, uint64_t limit);
};

}  // namespace skep
