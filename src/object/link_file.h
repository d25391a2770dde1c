// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "memory/result.h"

namespace skep {

/// link(2) of an open file, also of one that never had a name, to `path` (relative to `base_fd`). Errors as linkat(2);
/// a full file system is ENOMEM with a sentence.
Status link_file(int fd, int base_fd, const char* path);

/// ENOMEM for the errno of a full file system, with a sentence that names SKEP_DIR; other errors unchanged.
[[nodiscard]] std::unexpected<Errno> fail_full(int error);

}  // namespace skep
