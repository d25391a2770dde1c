// SPDX-License-Identifier: Apache-2.0
// The calls that end descriptors, and syscall(2) itself: bpf(2) comes in here.

#include <fcntl.h>
#include <limits.h>
#include <skep/bpf.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "preload/arena_mappings.h"
#include "preload/closing.h"
#include "preload/export.h"
#include "preload/kernel_call.h"
#include "preload/real.h"
#include "preload/runtime.h"
#include "preload/socket_calls.h"
#include "syscall/perf_events.h"
#include "syscall/process.h"

using namespace skep::preload;

namespace {

[[gnu::noinline]] long fail_bpf(int error) {
  errno = error;
  if (error == ENOMEM) [[unlikely]]
    explain_no_memory();
  return -1;
}

[[gnu::always_inline]] inline long bpf_in(skep::Process& process, long command, long attr, long size) {
  const int answer =
      skep::bpf(process, static_cast<int>(command), reinterpret_cast<bpf_attr*>(attr), static_cast<unsigned>(size));
  if (answer >= 0) [[likely]]
    return answer;
  return fail_bpf(-answer);
}

[[gnu::noinline, gnu::cold]] long first_bpf(long command, long attr, long size) {
  skep::Process* process = start();
  return process == nullptr ? -1 : bpf_in(*process, command, attr, size);
}

long other_call(long number, long a, long b, long c, long d, long e, long f);

}  // namespace

// Declared with all the arguments a system call can have instead of "...": registers are read as they come, whatever
// the caller has put into them, which is what libc's own does.
SKEP_TAKES long skep_syscall(long number, long a, long b, long c, long d, long e, long f) __asm__("syscall");
long skep_syscall(long number, long a, long b, long c, long d, long e, long f) {
  if (number == SYS_bpf) [[likely]] {  // the others pay the kernel anyway
    skep::Process* process = running_process();
    return process != nullptr ? bpf_in(*process, a, b, c) : first_bpf(a, b, c);
  }
  return other_call(number, a, b, c, d, e, f);
}

namespace {

/// perf_event_open(2): what bpf_perf_event_output() writes to is skep's, everything else the kernel's.
long open_event(long attr, long pid, long cpu, long group, long flags) {
  const auto user_attr = static_cast<uint64_t>(attr);
  const auto open_flags = static_cast<uint64_t>(flags);
  // Only a running skep can look at an attr that may be anywhere.
  skep::Process* process = static_cast<int>(pid) == -1 && static_cast<int>(group) == -1 ? start() : nullptr;
  if (process == nullptr || !skep::is_perf_output_event(user_attr, static_cast<int>(cpu), open_flags))
    return kernel_call(SYS_perf_event_open, attr, pid, cpu, group, flags, 0);
  const skep::Answer answer = skep::perf_event_open(*process, user_attr, static_cast<int>(cpu), open_flags);
  return answer ? *answer : fail_bpf(skep::to_int(answer.error()));
}

[[gnu::noinline]] long other_call(long number, long a, long b, long c, long d, long e, long f) {
  switch (number) {
    case SYS_close:
      return close(static_cast<int>(a));
    case SYS_accept:
      return accept_cloned(static_cast<int>(a), reinterpret_cast<sockaddr*>(b), reinterpret_cast<socklen_t*>(c));
    case SYS_accept4:
      return accept_cloned(static_cast<int>(a), reinterpret_cast<sockaddr*>(b), reinterpret_cast<socklen_t*>(c),
                           static_cast<int>(d));
    case SYS_perf_event_open:
      return open_event(a, b, c, d, e);
    case SYS_ioctl:
      return ioctl(static_cast<int>(a), static_cast<unsigned long>(b), c);
    case SYS_close_range:
      return close_range(static_cast<unsigned>(a), static_cast<unsigned>(b), static_cast<int>(c));
    case SYS_dup2:
      return dup2(static_cast<int>(a), static_cast<int>(b));
    case SYS_dup3:
      return dup3(static_cast<int>(a), static_cast<int>(b), static_cast<int>(c));
    default:
      return kernel_call(number, a, b, c, d, e, f);
  }
}

/// close_range(2) without the descriptors that are not the program's.
int close_around_guards(unsigned first, unsigned last, int flags) {
  for (;;) {
    const auto guard = first_guard(first, last);
    if (!guard) return real::close_range(first, last, flags);
    if (*guard > first && real::close_range(first, *guard - 1, flags) != 0) return -1;
    if (*guard == last) return 0;
    first = *guard + 1;
  }
}

/// dup2(2) and dup3(2).
template <class Call>
int replace(int to, const Call& call) {
  const bool guarded = is_guard(to);
  if (guarded && !duplicate_guard(to)) {
    errno = EBUSY;
    return -1;
  }
  const int result = replace_descriptor(to, call);
  if (guarded && result < 0) {
    const int saved_errno = errno;
    real::close(to);  // which is nobody's any more
    errno = saved_errno;
  }
  return result;
}

}  // namespace

SKEP_TAKES int close(int fd) {
  if (is_guard(fd)) {  // it is not the program's
    errno = EBADF;
    return -1;
  }
  const Closing closing(fd);
  return real::close(fd);
}

SKEP_TAKES int close_range(unsigned first, unsigned last, int flags) noexcept {
  // CLOSE_RANGE_CLOEXEC closes nothing now; with CLOSE_RANGE_UNSHARE this thread alone loses the descriptors, and
  // the others' entries are looked up again.
  if ((static_cast<unsigned>(flags) & CLOSE_RANGE_CLOEXEC) != 0 || first > last) {
    return real::close_range(first, last, flags);
  }
  const Closing closing(first, last);
  return close_around_guards(first, last, flags);
}

SKEP_TAKES void closefrom(int first) noexcept {
  const auto from = static_cast<unsigned>(first < 0 ? 0 : first);
  const Closing closing(from, UINT_MAX);
  if (close_around_guards(from, UINT_MAX, 0) != 0) real::closefrom(first);
}

SKEP_TAKES int dup2(int from, int to) noexcept {
  if (from == to) return real::dup2(from, to);
  return replace(to, [=] { return real::dup2(from, to); });
}

SKEP_TAKES int dup3(int from, int to, int flags) noexcept {
  return replace(to, [=] { return real::dup3(from, to, flags); });
}

SKEP_TAKES int fclose(FILE* stream) {
  const int saved_errno = errno;
  const int fd = fileno(stream);
  errno = saved_errno;
  if (fd < 0) return real::fclose(stream);
  const Closing closing(fd);
  return real::fclose(stream);
}
