// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <cstddef>
#include <cstdint>

#include "memory/result.h"
#include "object/instance.h"
#include "prog/program_references.h"
#include "syscall/fd_table.h"
#include "syscall/user_memory.h"

namespace skep {

class Timers;     // prog/timers.h
class TraceFile;  // syscall/prog_commands_run.h

/// One process's side of an instance: what skep_bpf() works on.
struct Process {
  explicit Process(std::shared_ptr<Instance> whose);
  ~Process();
  const std::shared_ptr<Instance> instance;
  Machine& machine = instance->machine();
  FdTable descriptors{*this};
  /// The inner maps and the targets of tail calls that programs of this process have used.
  const std::unique_ptr<ProgramReferences> references;
  /// What callbacks of timers print, and the timers of the programs of this process.
  const std::unique_ptr<TraceFile> timer_trace;
  const std::unique_ptr<Timers> timers;
};

/// What a command gets: where it runs, and its arguments after the entry rules (copied in, unknown tail refused, every
/// byte that the client gave behind the command's last field known to be zero).
struct Caller {
  Process& process;
  const bpf_attr& attr;  // a private copy, up to the command's last field; what the client did not give is zero
  uint64_t user_attr;    // where the client's attr stands
  uint32_t user_size;    // bytes of it that belong to the client

  [[nodiscard]] Instance& instance() const { return *process.instance; }
  [[nodiscard]] FdTable& descriptors() const { return process.descriptors; }
  [[nodiscard]] Machine& machine() const { return process.machine; }

  /// Writes a result field back into the client's attr at `offset`. False: EFAULT. Like Linux, the place is written
  /// even where the client's `size` ends before it only if `always`; otherwise a field behind user_size is skipped.
  template <class T>
  [[nodiscard]] bool write_back(size_t offset, const T& value, bool always = true) const {
    if (!always && offset + sizeof(T) > user_size) return true;
    return write_user(user_attr + offset, &value, sizeof(T));
  }
};

/// The answer of a command: the non-negative result of bpf(2), or the errno.
using Answer = Result<int>;
inline int to_result(const Answer& answer) { return answer ? *answer : -to_int(answer.error()); }

}  // namespace skep
