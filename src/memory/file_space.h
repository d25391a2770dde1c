// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "memory/result.h"

namespace skep {

/// The sentence for a file system that has no room left; it names SKEP_DIR, the way out. `bytes` were asked for.
[[nodiscard]] std::unexpected<Errno> fail_for_space(uint64_t bytes);

/// Whether the machine has memory for `bytes` more: ENOMEM (with a sentence) when it has not. Asked before a tmpfs is
/// filled, because a tmpfs may be larger than memory, and then the kernel kills processes instead of refusing pages.
/// Small requests are not asked for; the answer is an estimate.
Status check_memory_for(uint64_t bytes);

/// Makes the file `size` bytes long without reserving any of it. EFBIG (with a sentence) instead of SIGXFSZ where the
/// process's file size limit is in the way.
Status size_file(int fd, uint64_t size);

/// Reserves [offset, offset + length) of the file, which reads as zero, so that no mapping of it can raise SIGBUS
/// there; the file grows when it must. ENOMEM (with a sentence) when the file system is full: nothing is reserved then.
/// For creators, who have the descriptor; Segment::reserve does the same through a mapping.
Status reserve_file(int fd, uint64_t offset, uint64_t length);

}  // namespace skep
