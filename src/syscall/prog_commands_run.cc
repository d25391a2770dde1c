// SPDX-License-Identifier: Apache-2.0
// BPF_PROG_TEST_RUN: what is common to the types.
#include "syscall/prog_commands_run.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "prog/task_work.h"
#include "syscall/last_user.h"

namespace skep {
namespace {

constexpr uint32_t kRunsPerLease = 64;  // others want the CPU too
constexpr uint32_t kMaxRawArguments = 12;

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

void TraceFile::line(std::string_view text) {
  if (file_.get() < 0) {
    file_ =
        FileDescriptor(::openat(instance_.directory_fd(), "trace", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
  }
  std::string whole(text);
  whole += '\n';
  // One write per line: lines of several processes do not mix. A full file system loses lines, not the program.
  [[maybe_unused]] const ssize_t written = ::write(file_.get(), whole.data(), whole.size());
}

Answer prog_test_run(Caller& caller) {
  const auto& test = caller.attr.test;
  if ((test.ctx_size_in != 0) != (test.ctx_in != 0)) return fail(EINVAL);
  if ((test.ctx_size_out != 0) != (test.ctx_out != 0)) return fail(EINVAL);
  const auto object = caller.descriptors().share(static_cast<int>(test.prog_fd), ObjectKind::kProgram);
  if (!object) return std::unexpected(object.error());
  return TestRun(caller, **object).run();
}

Answer TestRun::run() {
  switch (face_.image().facts.type) {
    case BPF_PROG_TYPE_SOCKET_FILTER:
    case BPF_PROG_TYPE_SCHED_CLS:
    case BPF_PROG_TYPE_CGROUP_SKB:
      return run_skb();
    case BPF_PROG_TYPE_XDP:
      return run_xdp();
    case BPF_PROG_TYPE_RAW_TRACEPOINT:
      return run_raw_tracepoint();
    case BPF_PROG_TYPE_SYSCALL:
      return run_syscall();
    case BPF_PROG_TYPE_TRACING:
      return fail(EFAULT);  // what Linux answers for iterators
    default:
      return fail(kEnotsupp);
  }
}

Answer TestRun::run_raw_tracepoint() {
  if (test_.data_in != 0 || test_.data_out != 0 || test_.ctx_out != 0 || test_.duration != 0 || test_.repeat != 0 ||
      test_.batch_size != 0) {
    return fail(EINVAL);
  }
  if (test_.ctx_size_in > kMaxRawArguments * sizeof(uint64_t)) return fail(EINVAL);
  const bool on_cpu = (test_.flags & BPF_F_TEST_RUN_ON_CPU) != 0;
  if (!on_cpu && test_.cpu != 0) return fail(EINVAL);
  alignas(8) std::byte arguments[kMaxRawArguments * sizeof(uint64_t)] = {};
  if (!read_user(arguments, test_.ctx_in, test_.ctx_size_in)) return fail(EFAULT);
  if (on_cpu && test_.cpu >= caller_.machine().cpus()) return fail(ENXIO);
  const Lease::Cpu cpu = on_cpu ? Lease::Cpu{test_.cpu} : current_cpu(caller_.machine());
  BytesContext context{arguments, test_.ctx_size_in, false};
  if (Status status = repeat_on(cpu, &context, 1); !status) return std::unexpected(status.error());
  return finish_value();
}

Answer TestRun::run_syscall() {
  if (test_.data_in != 0 || test_.data_out != 0 || test_.ctx_out != 0 || test_.duration != 0 || test_.repeat != 0 ||
      test_.flags != 0 || test_.batch_size != 0 || test_.ctx_size_in > UINT16_MAX) {
    return fail(EINVAL);
  }
  std::vector<std::byte> bytes(round_up(test_.ctx_size_in, 8));
  if (!read_user(bytes.data(), test_.ctx_in, test_.ctx_size_in)) return fail(EFAULT);
  BytesContext context{bytes.data(), test_.ctx_size_in, true};
  if (Status status = here(&context); !status) return std::unexpected(status.error());
  if (!write_user(test_.ctx_in, bytes.data(), test_.ctx_size_in)) return fail(EFAULT);
  return finish_value();
}

Status TestRun::read_data(std::byte* to, uint32_t from, uint32_t size) const {
  return read_user(to, test_.data_in + from, size) ? Status{} : Status(fail(EFAULT));
}

Status TestRun::read_context(void* context, uint32_t known) const {
  const uint32_t size = test_.ctx_size_in;
  for (uint32_t at = known; at < size;) {
    char tail[256];
    const uint32_t part = std::min<uint32_t>(sizeof tail, size - at);
    if (!read_user(tail, test_.ctx_in + at, part)) return fail(EFAULT);
    if (std::any_of(tail, tail + part, [](char byte) { return byte != 0; })) return fail(E2BIG);
    at += part;
  }
  return read_user(context, test_.ctx_in, std::min(size, known)) ? Status{} : Status(fail(EFAULT));
}

Status TestRun::repeat_on(Lease::Cpu cpu, RunContext context, uint32_t times) {
  const auto program = face_.ready(caller_.descriptors());
  if (!program) return std::unexpected(program.error());
  for (const MapBinding& map : (*program)->code().maps) {
    if (ends_with_users(map.map->spec())) map_lost_its_users(caller_.process, map.id);
  }
  caller_.machine().run_deferred();  // inner maps and programs that died since
  static thread_local Runner runner;
  static thread_local TaskWork work;
  TraceFile trace(caller_.instance());
  const RunEnvironment environment{.trace = &trace,
                                   .references = caller_.process.references.get(),
                                   .timers = caller_.process.timers.get(),
                                   .task_work = &work};
  const uint64_t began = now_ns();
  Status status{};
  uint32_t done = 0;
  while (status && done < times) {
    const Lease lease(caller_.machine(), cpu);
    for (const uint32_t stop = done + std::min(kRunsPerLease, times - done); status && done < stop; ++done) {
      const auto value = runner.run(**program, lease, context, environment);
      if (value) {
        value_ = static_cast<uint32_t>(*value);
      } else {
        status = std::unexpected(value.error());
      }
    }
  }
  work.run_all(runner, caller_.machine(), environment);
  const uint64_t spent = now_ns() - began;
  duration_ = static_cast<uint32_t>(std::min<uint64_t>(spent / times, UINT32_MAX));
  if (face_.counts() && stats_enabled(caller_.instance())) {
    face_.counters().runs.fetch_add(done, std::memory_order_relaxed);
    face_.counters().nanoseconds.fetch_add(spent, std::memory_order_relaxed);
  }
  return status;
}

Status TestRun::finish_data(std::span<const std::byte> linear, std::span<const std::byte> rest) const {
  const auto size = static_cast<uint32_t>(linear.size() + rest.size());
  uint32_t copied = size;
  if (test_.data_size_out != 0) copied = std::min(copied, test_.data_size_out);
  const bool cut = copied < size;
  if (test_.data_out != 0) {
    // What lies in fragments is copied last, or not at all where not even the linear part and all of it has room.
    if (copied < rest.size()) return fail(ENOSPC);
    const auto first = static_cast<uint32_t>(std::min<size_t>(cut ? copied - rest.size() : copied, linear.size()));
    if (!write_user(test_.data_out, linear.data(), first)) return fail(EFAULT);
    if (!write_user(test_.data_out + first, rest.data(), copied - first)) return fail(EFAULT);
  }
  if (!caller_.write_back(offsetof(bpf_attr, test.data_size_out), size) ||
      !caller_.write_back(offsetof(bpf_attr, test.retval), value_) ||
      !caller_.write_back(offsetof(bpf_attr, test.duration), duration_)) {
    return fail(EFAULT);
  }
  return cut ? Status(fail(ENOSPC)) : Status{};
}

Status TestRun::finish_context(const void* context, uint32_t size) const {
  if (test_.ctx_out == 0) return {};
  const uint32_t copied = std::min(size, test_.ctx_size_out);
  if (!write_user(test_.ctx_out, context, copied)) return fail(EFAULT);
  if (!caller_.write_back(offsetof(bpf_attr, test.ctx_size_out), size)) return fail(EFAULT);
  return copied < size ? Status(fail(ENOSPC)) : Status{};
}

Answer TestRun::finish_value() const {
  if (!caller_.write_back(offsetof(bpf_attr, test.retval), value_)) return fail(EFAULT);
  return 0;
}

}  // namespace skep
