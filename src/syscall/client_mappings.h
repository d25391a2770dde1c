// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <cstdint>

namespace skep {

/// Whether any process of this user that /proc shows has a shared mapping of the user area of the object file `info`
/// that is writable or can be made so. skep's own windows, which are one page longer than the area, do not count.
/// A mapping made with PROT_READ from a writable descriptor counts: the kernel of the host would let it be upgraded.
bool has_writable_client_mapping(const struct stat& info, uint64_t user_size);

/// Where this process has mapped the user area from its beginning, apart from skep's own window; zeros: nowhere.
struct ClientMapping {
  uint64_t begin = 0, end = 0;  // addresses
};
ClientMapping own_client_mapping(const struct stat& info, uint64_t user_size);

}  // namespace skep
