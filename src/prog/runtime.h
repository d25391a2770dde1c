// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "machine/lease.h"
#include "maps/map.h"
#include "memory/result.h"
#include "prog/context.h"

namespace skep {

struct DecodedCode;       // prog/decode.h
struct MapBinding;        // prog/decode.h
class ProgramReferences;  // prog/program_references.h
class SequenceText;       // prog/sequence_text.h
class TaskWork;           // prog/task_work.h
class Timers;             // prog/timers.h

/// What a program is made from.
struct ProgramDescription {
  uint32_t type = 0;  // BPF_PROG_TYPE_*
  uint32_t expected_attach_type = 0;
  bool sleepable = false;  // loaded with BPF_F_SLEEPABLE (SYSCALL always is)
  bool gpl_compatible = true;
  /// As loaded, with one change: the imm of every BPF_LD | BPF_IMM | BPF_DW that names a map (BPF_PSEUDO_MAP_FD,
  /// _MAP_VALUE, _MAP_IDX, _MAP_IDX_VALUE) is an index into `maps`. The second imm stays the offset into the value.
  std::span<const bpf_insn> instructions;
  /// Opened kReadWrite unless the program may not write them; kept alive by the program.
  std::vector<std::shared_ptr<Map>> maps;
};

/// Whether skep runs programs of that type at all.
[[nodiscard]] bool program_type_supported(uint32_t type);

/// A program made ready to run: decoded once, immutable, run by any number of threads at the same time.
class Program {
 public:
  /// Checks the form of every instruction (opcodes, registers, reserved fields, jump targets, known helpers that the
  /// type may call) and decodes them. Says nothing about what the program does: that is checked while it runs. EINVAL
  /// with a sentence ("insn 7: ...") when the form is wrong; EPERM: a GPL-only helper in a program that is not.
  static Result<std::unique_ptr<Program>> prepare(const ProgramDescription& description);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  [[nodiscard]] uint32_t type() const;
  [[nodiscard]] const DecodedCode& code() const { return *code_; }

 private:
  explicit Program(std::shared_ptr<DecodedCode> code);
  std::shared_ptr<DecodedCode> code_;
};

/// Receives what programs print. Called from inside a run, in any thread.
class TraceSink {
 public:
  /// One complete line without its newline, in the format of the kernel's trace pipe:
  /// "<comm, 16 wide>-<thread> [<cpu>] ..... <seconds>.<micros>: bpf_trace_printk: <text>".
  virtual void line(std::string_view text) = 0;

 protected:
  ~TraceSink() = default;
};

/// What surrounds a run.
struct RunEnvironment {
  SequenceText* sequence = nullptr;         // what iterators write; null: other programs
  TraceSink* trace = nullptr;               // null: what is printed is dropped
  ProgramReferences* references = nullptr;  // null: maps of maps and program arrays seem empty
  Timers* timers = nullptr;                 // null: timers can neither be armed nor cancelled (EOPNOTSUPP)
  TaskWork* task_work = nullptr;            // null: none can be scheduled (EOPNOTSUPP)
  uint64_t instruction_limit = uint64_t{64} << 20;
};

/// The CPU that a program of this thread runs on unless somebody asks for another: the one that the thread runs on
/// now, modulo the machine's CPUs.
[[nodiscard]] Lease::Cpu current_cpu(const Machine& machine);

/// Runs programs of one thread: keeps the stack and tables of a run, so that repeated runs allocate nothing.
///
/// Every access that a program or a helper on its behalf makes is checked against what this run was given: its stack
/// frames, its context and packet, values of its maps that it looked up or names directly. Real addresses are in the
/// registers, but an address means nothing unless it lies in such a region, so whatever bytes were loaded, nothing
/// else is read or written. A run that breaks a rule stops where it is; its spin lock is released; what it did so far
/// stays done. Then run() fails, with a sentence that names the instruction and the reason:
///   EFAULT     an access outside its memory, or of the wrong size, alignment or direction
///   ELOOP      more instructions than the limit
///   EOVERFLOW  calls nested deeper than 8 frames (the kernel's bound)
///   EDEADLK    a helper or a second lock under a spin lock, or one that is never released
///   ETIMEDOUT  a spin lock whose living holder does not let go
///   EINVAL     an argument that is no such thing (a map, a function, a lock), a context of another program type
///
/// A Runner belongs to one thread at a time. Its size is about 12 KiB: keep it.
class Runner {
 public:
  Runner();
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  /// Runs `program` once on `context` under `lease`, a lease of a CPU. Returns R0.
  Result<uint64_t> run(const Program& program, const Lease& lease, RunContext context,
                       const RunEnvironment& environment = {});

  /// Runs one function of a program, the callback of a timer in the value at `value` of `map`: R1 = map, R2 = key, R3 =
  /// value. It has no context. Returns R0.
  Result<uint64_t> call_back(const DecodedCode& code, uint32_t function, const MapBinding& map, const void* key,
                             void* value, const Lease& lease, const RunEnvironment& environment);

  /// Instructions that the last run executed.
  [[nodiscard]] uint64_t instructions() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace skep
