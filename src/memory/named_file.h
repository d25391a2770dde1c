// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "memory/result.h"
#include "memory/segment.h"

namespace skep {

/// Makes a file that a directory has once, for all processes: filled before it gets its name, so that nobody sees it
/// half made. `size` bytes from kHeaderOffset on, the first `reserved` of which have memory; `fill` writes them.
/// Success too where another process was faster. ENOMEM (with a sentence): the file system is full.
Status make_named_file(int directory_fd, const char* name, uint64_t size, uint64_t reserved,
                       const std::function<Status(const Segment& window)>& fill);

}  // namespace skep
