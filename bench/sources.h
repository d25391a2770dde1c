// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "suite.h"

namespace skep::bench {

/// How long and how widely to measure.
struct Plan {
  uint64_t operations;    // of each in-process loop, per sample
  bool quick;             // shorter loops everywhere
  std::string directory;  // of the programs and libraries that were built
  std::string instances;  // an empty directory on a tmpfs, for skep instances
  std::string traces;     // a directory of recorded keys (lru_traces.h), or empty
};

/// Each adds its measurements to the suite, and the targets for them.
void add_commands(Suite& suite, const Plan& plan);
void add_lookups(Suite& suite, const Plan& plan);
void add_helpers(Suite& suite, const Plan& plan);
void add_tries(Suite& suite, const Plan& plan);
void add_queues(Suite& suite, const Plan& plan);
/// Ring buffers.
void add_rings(Suite& suite, const Plan& plan);
void add_timers(Suite& suite, const Plan& plan);
void add_memory(Suite& suite, const Plan& plan);
void add_lru_speed(Suite& suite, const Plan& plan);
void add_lru_hits(Suite& suite, const Plan& plan);
void add_nested(Suite& suite, const Plan& plan);
/// Tail calls, walks, redirections, events, stacks and pages: whole programs, interpreted.
void add_programs(Suite& suite, const Plan& plan);
/// Local storage of tasks and objects.
void add_storage(Suite& suite, const Plan& plan);

}  // namespace skep::bench
