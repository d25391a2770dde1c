// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "prog/program_references.h"

namespace skep {

struct Process;

/// What the words in maps stand for, opened in this process when a program first meets them.
std::unique_ptr<ProgramReferences> make_program_references(Process& process);

}  // namespace skep
