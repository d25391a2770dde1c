// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>

#include "preload/real.h"

namespace skep::preload {

/// Another descriptor of the same file, of a number that programs do not count on; -1 with errno.
inline int high_duplicate(int fd) {
  int high = -1;
  for (const int lowest : {800, 400, 100}) {
    high = ::fcntl(fd, F_DUPFD_CLOEXEC, lowest);
    if (high >= 0) break;
  }
  return high;
}

/// Moves the descriptor there, as far as the limit on descriptors allows.
inline int move_high(int fd) {
  const int high = high_duplicate(fd);
  if (high < 0) return fd;
  real::close(fd);
  return high;
}

}  // namespace skep::preload
