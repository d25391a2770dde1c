// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>

namespace skep {

/// A flag of mmap(2) that Linux ignores: windows of skep's own carry it, so that the preload library does not take
/// those of a skep that the application itself is linked with for the application's.
inline constexpr int kOwnWindow = MAP_DENYWRITE;

}  // namespace skep
