// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>

#include "syscall/user_copy_x86_64.h"

namespace skep {

/// Copies between skep and memory that a client of bpf(2) named, of which nothing is known: it may be unmapped,
/// read-only or beyond the end of a file. A fault ends the copy with false (EFAULT); bytes before it may have been
/// written. Addresses of the kernel's half, non-canonical ones and the first page are refused without a fault.
///
/// Faults are caught by a handler for SIGSEGV and SIGBUS (install_user_fault_handlers(), before the first copy), which
/// passes every fault that is not its own to the handler that was there before. A program that installs its own
/// handlers afterwards calls recover_user_fault() first in them (the preload library does that for its clients), and a
/// thread that blocks SIGSEGV and passes a bad pointer is killed by the kernel. Any thread; async-signal-safe.
[[nodiscard]] bool read_user(void* to, uint64_t user, size_t size);
[[nodiscard]] bool write_user(uint64_t user, const void* from, size_t size);

/// A NUL-terminated string into `to`: its length without the NUL; -1 when a byte of it cannot be read; -2 when there
/// is no NUL within `capacity` bytes.
[[nodiscard]] int64_t read_user_string(char* to, uint64_t user, size_t capacity);

/// Installs the handlers; idempotent. Making a Process does it.
void install_user_fault_handlers();
/// For signal handlers: true if the fault was one of a copy above, which then returns false; the handler returns.
bool recover_user_fault(int signal, void* ucontext);

/// Whether [user, user + size) lies in the half of the address space that is the client's, and not in its first page.
[[nodiscard]] inline bool plausible_user_range(uint64_t user, size_t size) {
  constexpr uint64_t kFirstByte = 4096;
  constexpr uint64_t kEnd = uint64_t{1} << 47;  // beyond: non-canonical, then the kernel's
  return user >= kFirstByte && user < kEnd && size <= kEnd - user;
}

#if defined(__x86_64__)

inline bool read_user(void* to, uint64_t user, size_t size) {
  return size == 0 ||
         (plausible_user_range(user, size) && skep_user_copy(to, reinterpret_cast<const void*>(user), size) == 0);
}

inline bool write_user(uint64_t user, const void* from, size_t size) {
  return size == 0 ||
         (plausible_user_range(user, size) && skep_user_copy(reinterpret_cast<void*>(user), from, size) == 0);
}

#endif

}  // namespace skep
