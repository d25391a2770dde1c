// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace skep::preload {

/// Maps the user area of the map behind `fd` from its beginning, as protection asks: what is mapped for reading can
/// never be made writable. Makes no pages, also where mlockall(2) would. MAP_FAILED with errno.
void* map_holes(int fd, void* address, size_t length, int protection, int flags);

}  // namespace skep::preload
