// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>

#include "preload/ring_watches.h"
#include "preload/runtime.h"
#include "syscall/caller.h"

namespace skep::preload {

inline FdTable* running_table() {
  Process* const process = running_process();
  return process != nullptr ? &process->descriptors : nullptr;
}

/// Tells the descriptor table that the numbers first..last are closed while this lives. errno is that of the call.
class Closing {
 public:
  Closing(unsigned first, unsigned last) : table_(running_table(), first, last) { forget_rings(first, last); }
  explicit Closing(int fd) : Closing(static_cast<unsigned>(fd), static_cast<unsigned>(fd)) {}

 private:
  FdTable::Closing table_;
};

/// The same for a call that puts another descriptor in the place of `fd`: what that was is lost only if it succeeds.
template <class Call>
int replace_descriptor(int fd, const Call& call) {
  FdTable* const table = running_table();
  const bool known = table != nullptr && table->believed(fd) != nullptr;
  const auto number = static_cast<unsigned>(fd);
  int result;
  {
    const FdTable::Closing closing(table, number, number);
    result = call();
    const int saved_errno = errno;
    if (result >= 0) forget_rings(number, number);
    errno = saved_errno;
  }
  if (result < 0 && known) {  // it has been forgotten
    const int saved_errno = errno;
    static_cast<void>(table->share(fd));
    errno = saved_errno;
  }
  return result;
}

}  // namespace skep::preload
