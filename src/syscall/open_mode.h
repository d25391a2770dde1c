// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <skep/abi.h>

#include "memory/result.h"

namespace skep {

/// The open(2) mode that BPF_F_RDONLY and BPF_F_WRONLY ask for; EINVAL: both, or a flag that is not in `others`.
inline Result<int> open_mode(uint32_t flags, uint32_t others) {
  constexpr uint32_t kBoth = BPF_F_RDONLY | BPF_F_WRONLY;
  if ((flags & ~(kBoth | others)) != 0 || (flags & kBoth) == kBoth) return fail(EINVAL);
  if ((flags & BPF_F_RDONLY) != 0) return O_RDONLY;
  return (flags & BPF_F_WRONLY) != 0 ? O_WRONLY : O_RDWR;
}

}  // namespace skep
