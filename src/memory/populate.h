// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace skep {

/// Makes the pages of [start, start + length), page aligned and part of a shared writable mapping of a tmpfs file,
/// exist, without changing what they hold. 0, or the errno: EFAULT or ENOMEM when the file system is full. Never
/// SIGBUS.
int populate_for_writing(std::byte* start, uint64_t length);

/// The same on kernels without MADV_POPULATE_WRITE (before Linux 5.14): lets process_vm_readv(2) touch every page,
/// which on tmpfs allocates it, and which reports a page that cannot be had as EFAULT.
int populate_by_reading(std::byte* start, uint64_t length);

}  // namespace skep
