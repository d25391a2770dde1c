// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace skep::cli {

/// The file that execvp() would execute for `command`; "" if there is none.
std::string find_executable(const std::string& command);

/// Whether `path` is an ELF program without a dynamic loader, which no LD_PRELOAD reaches. False when in doubt.
bool is_static_program(const std::string& path);

}  // namespace skep::cli
