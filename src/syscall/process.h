// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <atomic>

#include "syscall/caller.h"

namespace skep {

/// This process's side of the default instance, opened at the first call; null when it cannot be opened, with the
/// reason in skep_last_error(). Any thread; never goes away.
inline Process* default_process();

/// bpf(2) on a given process side (skep_bpf() is this on default_process()): the result, or -errno.
int bpf(Process& process, int cmd, bpf_attr* attr, unsigned int size);

/// For a library that sees every close(2) of this process (the preload library): descriptors are then believed without
/// a system call. From then on each close, dup2 target and close_range is bracketed by FdTable::Closing.
void skep_trust_descriptors();

extern std::atomic<Process*> the_default_process;
Process* open_default_process();

inline Process* default_process() {
  // Pairs with the release store in open_default_process().
  if (Process* process = the_default_process.load(std::memory_order_acquire)) [[likely]]
    return process;
  return open_default_process();
}

}  // namespace skep
