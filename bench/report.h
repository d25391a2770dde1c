// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "suite.h"

namespace skep::bench {

/// Prints one line per row: every subject's median, and where there is a target, the ratio, the target, met or missed.
void print_table(const Suite& suite);

/// Writes the same as JSON. False: the file could not be written (errno).
bool write_json(const Suite& suite, const std::string& path);

}  // namespace skep::bench
