// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "prog/program_references.h"

namespace skep {

struct Process;

/// What the words in maps stand for, opened in this process when a program first meets them.
std::unique_ptr<ProgramReferences> make_program_references(Process& process);
/// Has fork(2) keep them whole. Implied by making some; called where the order of registrations counts.
void watch_forks_of_references();

}  // namespace skep
