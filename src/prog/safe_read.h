// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace skep {

/// Reads memory of this process at an address that may be anything: never faults. False: some of the bytes are not
/// readable; `to` may have been written in part. Any thread. Costs a system call.
bool safe_read(void* to, uint64_t address, size_t size);

/// Copies a string of at most `size` bytes, its NUL included; a longer one is cut and ends in NUL all the same. Returns
/// the bytes written, NUL included (0 for size 0); none: not readable.
std::optional<size_t> safe_read_string(char* to, uint64_t address, size_t size);

}  // namespace skep
