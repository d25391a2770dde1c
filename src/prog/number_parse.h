// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "memory/result.h"

namespace skep {

/// What bpf_strtol() and bpf_strtoul() read at the start of a text.
struct ParsedNumber {
  bool negative;
  uint64_t magnitude;
  uint64_t consumed;  // bytes, leading white space and sign included
};

/// `flags` is the base: 0 (by prefix: 0x, 0, else decimal), 8, 10 or 16; anything else EINVAL, as is a text without
/// digits. At most 63 bytes of sign-less number are looked at. ERANGE: more than 64 bits.
Result<ParsedNumber> parse_number(std::string_view text, uint64_t flags);

}  // namespace skep
