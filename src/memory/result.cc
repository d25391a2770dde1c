// SPDX-License-Identifier: Apache-2.0
#include "memory/result.h"

#include <utility>

namespace skep {
namespace {
thread_local std::string last_error;
}  // namespace

std::unexpected<Errno> fail_because(int error, std::string sentence) {
  last_error = std::move(sentence);
  return fail(error);
}

const char* last_error_sentence() { return last_error.c_str(); }

void clear_last_error() { last_error.clear(); }

}  // namespace skep
