// SPDX-License-Identifier: Apache-2.0
#include "prog/checksum.h"

#include <cstring>

namespace skep::checksum {

uint32_t partial(const void* data, size_t size, uint32_t sum) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  uint64_t wide = sum;
  for (; size >= 4; size -= 4, bytes += 4) {
    uint32_t word;
    std::memcpy(&word, bytes, 4);
    wide += word;
  }
  if (size > 0) {
    uint32_t word = 0;
    std::memcpy(&word, bytes, size);
    wide += word;
  }
  wide = (wide & UINT32_MAX) + (wide >> 32);
  return static_cast<uint32_t>(wide + (wide >> 32));
}

}  // namespace skep::checksum
