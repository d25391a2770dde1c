// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

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

/// Whether `size` bytes of the client are zero. Every byte is looked at.
enum class UserZeros { kYes, kNo, kFault };
[[nodiscard]] UserZeros user_zeros(uint64_t user, size_t size);

/// read_user() and write_user() where speed counts and most sizes are 4, 8 or 16: those are moved by instructions that
/// stand in the caller. A client has just written its key, and just that wide: a load of the same width gets it without
/// waiting for the store.
[[nodiscard]] bool read_user_inline(void* to, uint64_t user, size_t size);
[[nodiscard]] bool write_user_inline(uint64_t user, const void* from, size_t size);

/// A NUL-terminated string into `to`: its length without the NUL; -1 when a byte of it cannot be read; -2 when there
/// is no NUL within `capacity` bytes.
[[nodiscard]] int64_t read_user_string(char* to, uint64_t user, size_t capacity);

/// Installs the handlers; idempotent. Making a Process does it.
void install_user_fault_handlers();
/// For signal handlers: true if the fault was one of a copy above, which then returns false; the handler returns. A
/// signal that somebody sent is none, wherever it arrives.
bool recover_user_fault(int signal, const siginfo_t& info, void* ucontext);

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

inline UserZeros user_zeros(uint64_t user, size_t size) {
  if (size == 0) return UserZeros::kYes;
  if (!plausible_user_range(user, size)) return UserZeros::kFault;
  const int zeros = skep_user_all_zero(reinterpret_cast<const void*>(user), size);
  return zeros < 0 ? UserZeros::kFault : zeros != 0 ? UserZeros::kYes : UserZeros::kNo;
}

[[gnu::always_inline]] inline bool read_user_inline(void* to, uint64_t user, size_t size) {
  bool fault;
  if (size == 8) {
    if (!plausible_user_range(user, 8)) return false;
    uint64_t word;
    asm volatile(SKEP_USER_MOVES("movq (%[user]), %[word]")
                 : [word] "=&r"(word), "=@ccc"(fault)
                 : [user] "r"(user)
                 : "memory");
    std::memcpy(to, &word, 8);
  } else if (size == 4) {
    if (!plausible_user_range(user, 4)) return false;
    uint32_t word;
    asm volatile(SKEP_USER_MOVES("movl (%[user]), %[word]")
                 : [word] "=&r"(word), "=@ccc"(fault)
                 : [user] "r"(user)
                 : "memory");
    std::memcpy(to, &word, 4);
  } else if (size == 16) {
    if (!plausible_user_range(user, 16)) return false;
    uint64_t words[2];
    asm volatile(SKEP_USER_MOVES("movq (%[user]), %[low]\nmovq 8(%[user]), %[high]")
                 : [low] "=&r"(words[0]), [high] "=&r"(words[1]), "=@ccc"(fault)
                 : [user] "r"(user)
                 : "memory");
    std::memcpy(to, words, 16);
  } else {
    return read_user(to, user, size);
  }
  return !fault;
}

[[gnu::always_inline]] inline bool write_user_inline(uint64_t user, const void* from, size_t size) {
  bool fault;
  if (size == 8) {
    if (!plausible_user_range(user, 8)) return false;
    uint64_t word;
    std::memcpy(&word, from, 8);
    asm volatile(SKEP_USER_MOVES("movq %[word], (%[user])")
                 : "=@ccc"(fault)
                 : [user] "r"(user), [word] "r"(word)
                 : "memory");
  } else if (size == 4) {
    if (!plausible_user_range(user, 4)) return false;
    uint32_t word;
    std::memcpy(&word, from, 4);
    asm volatile(SKEP_USER_MOVES("movl %[word], (%[user])")
                 : "=@ccc"(fault)
                 : [user] "r"(user), [word] "r"(word)
                 : "memory");
  } else if (size == 16) {
    if (!plausible_user_range(user, 16)) return false;
    uint64_t words[2];
    std::memcpy(words, from, 16);
    asm volatile(SKEP_USER_MOVES("movq %[low], (%[user])\nmovq %[high], 8(%[user])")
                 : "=@ccc"(fault)
                 : [user] "r"(user), [low] "r"(words[0]), [high] "r"(words[1])
                 : "memory");
  } else {
    return write_user(user, from, size);
  }
  return !fault;
}

#else

inline UserZeros user_zeros(uint64_t user, size_t size) {
  unsigned char any = 0;
  for (size_t i = 0; i < size; ++i) {
    unsigned char byte;
    if (!read_user(&byte, user + i, 1)) return UserZeros::kFault;
    any |= byte;
  }
  return any == 0 ? UserZeros::kYes : UserZeros::kNo;
}
inline bool read_user_inline(void* to, uint64_t user, size_t size) { return read_user(to, user, size); }
inline bool write_user_inline(uint64_t user, const void* from, size_t size) { return write_user(user, from, size); }

#endif

}  // namespace skep
