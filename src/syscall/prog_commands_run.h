// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "prog/runtime.h"
#include "syscall/prog_commands.h"

namespace skep {

/// Appends what programs print to the instance's trace file, one line per call. Opens it at the first line.
class TraceFile final : public TraceSink {
 public:
  explicit TraceFile(const Instance& instance) : instance_(instance) {}
  void line(std::string_view text) override;

 private:
  const Instance& instance_;
  FileDescriptor file_;
};

/// BPF_PROG_TEST_RUN of one program: what its type gives it to run on, the runs, and what is copied back.
class TestRun {
 public:
  TestRun(Caller& caller, const OpenObject& object)
      : caller_(caller), test_(caller.attr.test), face_(program_of(object)) {}
  /// Errors of the kernel's test_run for the type; those of Runner::run() where the program itself broke a rule.
  Answer run();

 private:
  Answer run_skb();
  Answer run_xdp();
  Answer run_raw_tracepoint();
  Answer run_syscall();

  /// `size` bytes of data_in.
  Status read_data(std::byte* to, uint32_t from, uint32_t size) const;
  /// ctx_in into a context structure of `known` bytes, zero where there is none. E2BIG: the tail is not zero.
  Status read_context(void* context, uint32_t known) const;
  [[nodiscard]] bool has_context() const { return test_.ctx_in != 0 || test_.ctx_out != 0; }
  /// Runs it `repeat` times on `cpu`; leaves retval and duration.
  Status repeat_on(Lease::Cpu cpu, RunContext context, uint32_t times);
  Status here(RunContext context) { return repeat_on(current_cpu(caller_.machine()), context, times()); }
  [[nodiscard]] uint32_t times() const { return test_.repeat == 0 ? 1 : test_.repeat; }
  /// Copies the parts of a packet, the sizes, retval and duration out. ENOSPC: the packet was cut off.
  Status finish_data(std::span<const std::byte> linear, std::span<const std::byte> rest) const;
  Status finish_context(const void* context, uint32_t size) const;
  Answer finish_value() const;

  Caller& caller_;
  const decltype(bpf_attr::test)& test_;
  const ProgramFace& face_;
  uint32_t value_ = 0;
  uint32_t duration_ = 0;  // ns per run
};

}  // namespace skep
