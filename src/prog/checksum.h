// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

/// The internet checksum (RFC 1071) in the forms that packet helpers need. Sums are one's complement, in the byte order
/// of the packet, so that nothing is ever swapped.
namespace skep::checksum {

/// Adds `size` bytes to `sum`, 32 bits wide with end-around carry. A last odd byte counts as the first of a pair.
uint32_t partial(const void* data, size_t size, uint32_t sum);

/// 32 bits folded to 16, not complemented.
constexpr uint16_t fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum + (sum >> 16));
}

constexpr uint32_t add(uint32_t a, uint32_t b) {
  const uint32_t sum = a + b;
  return sum + (sum < b ? 1 : 0);
}

/// The checksum field `check` after the sum of what it covers changed by `difference` (RFC 1624).
constexpr uint16_t replace_by_difference(uint16_t check, uint32_t difference) {
  return static_cast<uint16_t>(~fold(add(difference, static_cast<uint32_t>(~uint32_t{check}))));
}

/// The same after 4 (or 2, zero-extended) covered bytes changed.
constexpr uint16_t replace4(uint16_t check, uint32_t from, uint32_t to) {
  const uint32_t without = add(static_cast<uint32_t>(~uint32_t{check}), ~from);
  return static_cast<uint16_t>(~fold(add(without, to)));
}
constexpr uint16_t replace2(uint16_t check, uint16_t from, uint16_t to) {
  const uint32_t sum = static_cast<uint32_t>(static_cast<uint16_t>(~check)) + static_cast<uint16_t>(~from);
  return static_cast<uint16_t>(~fold(sum + to));
}

}  // namespace skep::checksum
