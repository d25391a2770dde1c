// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)

extern "C" {
/// memcpy whose faults, at any instruction between the begin and end labels, resume at the fault label: -1 instead of
/// 0.
__attribute__((visibility("hidden"))) int skep_user_copy(void* to, const void* from, size_t size);
/// Copies up to and including a NUL, at most `size` bytes: bytes copied with the NUL, -1 after a fault, -2 without NUL.
__attribute__((visibility("hidden"))) int64_t skep_user_copy_string(char* to, const char* from, size_t size);
/// 1 when every byte is zero, 0 when one is not, -1 after a fault, wherever it is.
__attribute__((visibility("hidden"))) int skep_user_all_zero(const void* from, size_t size);
__attribute__((visibility("hidden"))) extern const char skep_user_copy_begin[];
__attribute__((visibility("hidden"))) extern const char skep_user_copy_end[];
__attribute__((visibility("hidden"))) extern const char skep_user_copy_fault[];

/// Every SKEP_USER_MOVES of the library: the fault handler's table. Absent from a program without any.
struct SkepUserMoves {
  int32_t begin, end;  // of the instructions, relative to the field itself
};
__attribute__((visibility("hidden"), weak)) extern const SkepUserMoves __start_skep_user_moves[];
__attribute__((visibility("hidden"), weak)) extern const SkepUserMoves __stop_skep_user_moves[];
}

/// Moves to or from a client's memory for an asm statement whose output "=@ccc" tells whether one of them faulted: the
/// carry flag is cleared before them, and the fault handler, which knows them by the table, sets it and goes on behind
/// them. They change no flag. The entry joins the section group of the function it is inlined into ("?"), and a linker
/// that collects unused sections keeps it ("R"), although nothing but the names of its ends refers to it.
#define SKEP_USER_MOVES(moves)                         \
  "clc\n771:\n" moves                                  \
  "\n772:\n"                                           \
  ".pushsection skep_user_moves, \"aR?\", @progbits\n" \
  ".balign 4\n.long 771b - .\n.long 772b - .\n.popsection\n"

#endif
