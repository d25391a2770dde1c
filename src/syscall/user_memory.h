// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>

namespace skep {

/// Copies between skep and memory that a client of bpf(2) named, of which nothing is known: it may be unmapped,
/// read-only or beyond the end of a file. A fault ends the copy with false (EFAULT); bytes before it may have been
/// written. Addresses of the kernel's half, non-canonical ones and the first page are refused without a fault.
///
/// Faults are caught by a handler for SIGSEGV and SIGBUS, installed at the first copy, which passes every fault that is
/// not its own to the handler that was there before. A program that installs its own handlers afterwards calls
/// recover_user_fault() first in them (the preload library does that for its clients), and a thread that blocks SIGSEGV
/// and passes a bad pointer is killed by the kernel. Any thread; async-signal-safe after the first call.
[[nodiscard]] bool read_user(void* to, uint64_t user, size_t size);
[[nodiscard]] bool write_user(uint64_t user, const void* from, size_t size);

/// A NUL-terminated string into `to`: its length without the NUL; -1 when a byte of it cannot be read; -2 when there
/// is no NUL within `capacity` bytes.
[[nodiscard]] int64_t read_user_string(char* to, uint64_t user, size_t capacity);

/// Installs the handlers now; idempotent.
void install_user_fault_handlers();
/// For signal handlers: true if the fault was one of a copy above, which then returns false; the handler returns.
bool recover_user_fault(int signal, void* ucontext);

}  // namespace skep
