// SPDX-License-Identifier: Apache-2.0
#include "btf/verifier_log.h"

#include <cstdio>

namespace skep {

void VerifierLog::append(const char* format, va_list arguments) {
  char line[1024];  // as the kernel: one message never exceeds its line buffer
  const int length = std::vsnprintf(line, sizeof line, format, arguments);
  if (length > 0) text_.append(line, std::min(static_cast<size_t>(length), sizeof line - 1));
}

void VerifierLog::print(const char* format, ...) {
  if (!wanted()) return;
  va_list arguments;
  va_start(arguments, format);
  append(format, arguments);
  va_end(arguments);
}

}  // namespace skep
