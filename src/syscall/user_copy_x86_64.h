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
__attribute__((visibility("hidden"))) extern const char skep_user_copy_begin[];
__attribute__((visibility("hidden"))) extern const char skep_user_copy_end[];
__attribute__((visibility("hidden"))) extern const char skep_user_copy_fault[];
}

#endif
