// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <cstring>

#include "memory/result.h"

namespace skep {

/// The name that a client gives a map or program: letters, digits, '_' and '.', with a NUL within the field; what
/// stands behind the NUL is dropped. EINVAL: anything else.
inline Status copy_object_name(char (&to)[BPF_OBJ_NAME_LEN], const char (&from)[BPF_OBJ_NAME_LEN]) {
  char name[BPF_OBJ_NAME_LEN] = {};
  for (size_t i = 0; i < sizeof name; ++i) {
    const char c = from[i];
    if (c == '\0') {
      std::memcpy(to, name, sizeof name);
      return {};
    }
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (!plain && c != '_' && c != '.') return fail(EINVAL);
    name[i] = c;
  }
  return fail(EINVAL);
}

}  // namespace skep
