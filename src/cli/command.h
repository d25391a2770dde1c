// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

namespace skep::cli {

/// The arguments of a command, without its name; the pointer behind the last one is null, as in argv.
using Arguments = std::span<char*>;

/// Exit status for a command line that makes no sense.
inline constexpr int kUsageError = 2;

/// Tells what is wrong with the command line and how it is meant; returns kUsageError.
int usage_error(const char* problem, const char* argument = nullptr);

// The commands: each returns the exit status of the program.

/// `run [--instance DIR] [--] CMD ...`: replaces this process by CMD with skep's bpf(2). Returns only when that fails:
/// 127 there is no CMD, 126 it cannot be executed, 125 skep itself is not complete (as env(1) has it).
int run(Arguments arguments);
/// `check [ID]`: walks the maps of the instance (or one) and checks their invariants; 1 if one does not hold.
int check(Arguments arguments);
/// `ls`: the living objects of the instance.
int list(Arguments arguments);
/// `clean`: removes the objects that nobody holds any more, and an instance in which nothing is left.
int clean(Arguments arguments);

}  // namespace skep::cli
