// SPDX-License-Identifier: Apache-2.0
#include "prog/number_parse.h"

#include <cerrno>

namespace skep {
namespace {

constexpr size_t kMaxNumber = 63;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || static_cast<unsigned char>(c) == 0xa0; }

/// The digit's value; 99 for anything else.
unsigned digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? static_cast<unsigned>(lower - 'a') + 10 : 99;
}

bool has_hex_prefix(std::string_view text) {
  return text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == 'x' && digit(text[2]) < 16;
}

}  // namespace

Result<ParsedNumber> parse_number(std::string_view text, uint64_t flags) {
  if (flags != 0 && flags != 8 && flags != 10 && flags != 16) return fail(EINVAL);
  size_t at = 0;
  while (at < text.size() && is_space(text[at])) ++at;
  const bool negative = at < text.size() && text[at] == '-';
  if (negative) ++at;
  std::string_view number = text.substr(at, kMaxNumber);
  auto base = static_cast<unsigned>(flags);
  if (base == 0) base = has_hex_prefix(number) ? 16 : !number.empty() && number[0] == '0' ? 8 : 10;
  const size_t prefix = base == 16 && number.size() >= 2 && number[0] == '0' && (number[1] | 0x20) == 'x' ? 2 : 0;
  uint64_t magnitude = 0;
  bool overflow = false;
  size_t end = prefix;
  for (; end < number.size() && digit(number[end]) < base; ++end) {
    overflow |= __builtin_mul_overflow(magnitude, base, &magnitude);
    overflow |= __builtin_add_overflow(magnitude, digit(number[end]), &magnitude);
  }
  if (overflow) return fail(ERANGE);
  if (end == prefix) return fail(EINVAL);
  return ParsedNumber{.negative = negative, .magnitude = magnitude, .consumed = at + end};
}

}  // namespace skep
