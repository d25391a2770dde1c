// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>

#include "memory/result.h"

namespace skep {

/// skep has no BPF tokens, so whatever a client passes as one is the wrong thing (EINVAL) or nothing (EBADF).
[[nodiscard]] inline std::unexpected<Errno> fail_as_token(int fd) {
  return fail(::fcntl(fd, F_GETFD) < 0 ? EBADF : EINVAL);
}

}  // namespace skep
