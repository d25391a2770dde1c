// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "memory/result.h"

namespace skep {

/// The name of the machine's file in the instance directory.
inline constexpr const char* kMachineName = "machine";

/// Makes the machine of the instance directory, with all its pages reserved, and gives it its name only when it is
/// complete. Succeeds also when somebody else was faster. ENOMEM: the file system is full.
Status create_machine(int directory_fd);

}  // namespace skep
