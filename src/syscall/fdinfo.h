// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "syscall/caller.h"

namespace skep {

/// What /proc/self/fdinfo/<fd> says for a descriptor of an object, line by line as Linux 6.18 writes it; empty when
/// `fd` is none of this instance.
std::string fdinfo_text(int fd);
std::string fdinfo_text(Process& process, int fd);

}  // namespace skep
