// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>

namespace skep::preload {

/// A system call as libc's syscall(2) makes it: the result, or -1 with errno set.
inline long kernel_call(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long fourth __asm__("r10") = d;
  register long fifth __asm__("r8") = e;
  register long sixth __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                   : "rcx", "r11", "memory");
  if (static_cast<unsigned long>(result) <= -4096UL) [[likely]]
    return result;
  errno = static_cast<int>(-result);
  return -1;
}

}  // namespace skep::preload
