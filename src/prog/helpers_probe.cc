// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstring>

#include "prog/helpers.h"
#include "prog/safe_read.h"

namespace skep::helpers {

uint64_t probe_read(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  if (b == 0) return 0;
  if (run.readable(c, b)) {
    std::memmove(memory<void>(a), memory<const void>(c), b);
    return 0;
  }
  if (safe_read(memory<void>(a), c, b)) return 0;
  std::memset(memory<void>(a), 0, b);
  return error_value(EFAULT);
}

uint64_t probe_read_str(Run&, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  if (b == 0) return 0;
  const auto length = safe_read_string(memory<char>(a), c, b);
  if (length) return *length;
  std::memset(memory<void>(a), 0, b);
  return error_value(EFAULT);
}

uint64_t copy_from_user(Run&, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  if (b == 0) return 0;
  if (safe_read(memory<void>(a), c, b)) return 0;
  std::memset(memory<void>(a), 0, b);
  return error_value(EFAULT);
}

}  // namespace skep::helpers
