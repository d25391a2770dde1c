// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace skep::preload {

/// Maps the user area of the map behind `fd` from its beginning, as protection asks: what is mapped for reading can
/// never be made writable. MAP_FAILED with errno.
void* map_descriptor(int fd, void* address, size_t length, int protection, int flags);

}  // namespace skep::preload
