// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace skep {

/// The names in a directory, without "." and ".."; empty when it cannot be read.
std::vector<std::string> list_directory(int base_fd, const char* path);

}  // namespace skep
