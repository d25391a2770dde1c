// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>

#include "preload/ring_watches.h"
#include "preload/runtime.h"
#include "syscall/process.h"

namespace skep::preload {

/// Tells the descriptor table that the numbers first..last are closed while this lives. errno is that of the call.
class Closing {
 public:
  Closing(unsigned first, unsigned last) : first_(first), last_(last), told_(serving()) {
    if (!told_) return;
    fd_closing(first_, last_);
    forget_rings(first_, last_);
  }
  explicit Closing(int fd) : Closing(static_cast<unsigned>(fd), static_cast<unsigned>(fd)) {}
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;
  ~Closing() {
    if (!told_) return;
    const int saved_errno = errno;
    fd_closed(first_, last_);
    errno = saved_errno;
  }

 private:
  unsigned first_;
  unsigned last_;
  bool told_;
};

}  // namespace skep::preload
