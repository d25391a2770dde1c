// SPDX-License-Identifier: Apache-2.0
// Tasks as owners. A task is the inode of its pidfds, which pidfs (Linux 6.9) never gives twice; where pidfds share one
// inode, its number, the time it started and the PID namespace of whoever looked.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <string>

#include "storage/owner_source.h"
#include "storage/trace_text.h"

namespace skep {
namespace {

constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9
constexpr int64_t kPidfsMagic = 0x50494446;

int open_pidfd(pid_t thread) {
  const long fd = ::syscall(SYS_pidfd_open, thread, kPidfdThread);
  return static_cast<int>(fd >= 0 || errno != EINVAL ? fd : ::syscall(SYS_pidfd_open, thread, 0));
}

/// The device of pidfs; 0 where pidfds are not of a file system of their own.
dev_t pidfs_device() {
  static const dev_t device = [] {
    const int fd = open_pidfd(::getpid());
    struct statfs system {};
    struct stat info {};
    const bool known =
        fd >= 0 && ::fstatfs(fd, &system) == 0 && system.f_type == kPidfsMagic && ::fstat(fd, &info) == 0;
    if (fd >= 0) ::close(fd);
    return known ? info.st_dev : dev_t{0};
  }();
  return device;
}

/// Field 22 of /proc/PID/stat; 0: there is no such task.
uint64_t start_time(pid_t task) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(task));
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  char text[1024];
  const ssize_t length = fd < 0 ? -1 : ::read(fd, text, sizeof text - 1);
  if (fd >= 0) ::close(fd);
  if (length <= 0) return 0;
  const std::string line(text, static_cast<size_t>(length));
  size_t at = line.rfind(')');  // the name may contain anything
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = line.find(' ', at + 1);
  uint64_t ticks = 0;
  if (at != std::string::npos) std::from_chars(line.data() + at + 1, line.data() + line.size(), ticks);
  return ticks;
}

OwnerIdentity identity_by_number(pid_t task) {
  return {.kind = OwnerKind::kTask, .words = {static_cast<uint64_t>(task), start_time(task), own_namespace("pid")}};
}

/// The number that fdinfo gives for a pidfd: -1 for a task that has been reaped. EBADF: no pidfd.
Result<pid_t> number_of(int fd) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/thread-self/fdinfo/%d", fd);
  std::FILE* const file = std::fopen(path, "re");
  if (file == nullptr) return fail(EBADF);
  char line[256];
  int number = 0;
  bool found = false;
  while (!found && std::fgets(line, sizeof line, file) != nullptr) found = std::sscanf(line, "Pid: %d", &number) == 1;
  std::fclose(file);
  if (!found) return fail(EBADF);
  return number;
}

Result<OwnerIdentity> resolve(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return fail(EBADF);
  if (pidfs_device() == 0) {
    const auto number = number_of(fd);
    if (!number) return std::unexpected(number.error());
    if (*number <= 0) return fail(ENOENT);
    return identity_by_number(*number);
  }
  if (info.st_dev != pidfs_device()) return fail(EBADF);
  // A zombie can be signalled, a task that has been reaped cannot.
  if (::syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0) != 0 && errno == ESRCH) return fail(ENOENT);
  return OwnerIdentity{.kind = OwnerKind::kTask, .words = {info.st_ino, 0, 0}};
}

OwnerTrace trace(int fd) {
  const auto number = number_of(fd);
  return make_trace(own_namespace("pid"), number && *number > 0 ? std::to_string(*number) : "");
}

bool gone(const OwnerIdentity& identity, const OwnerTrace& trace) {
  if (trace.space == 0 || trace.space != own_namespace("pid")) return false;
  const std::string text = text_of(trace);
  pid_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  if (number <= 0) return false;
  const auto now = resolve_thread(number);
  return now ? *now != identity : to_int(now.error()) == ESRCH;
}

}  // namespace

Result<OwnerIdentity> resolve_thread(pid_t thread) {
  const int fd = open_pidfd(thread);
  if (fd < 0) return fail(errno == ENOENT ? ESRCH : errno);
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  ::close(fd);
  if (pidfs_device() == 0) return identity_by_number(thread);
  if (!known) return fail(ESRCH);
  return OwnerIdentity{.kind = OwnerKind::kTask, .words = {info.st_ino, 0, 0}};
}

OwnerTrace trace_thread(pid_t thread) { return make_trace(own_namespace("pid"), std::to_string(thread)); }

const OwnerSource kTaskOwners = {.kind = OwnerKind::kTask, .resolve = resolve, .trace = trace, .gone = gone};

}  // namespace skep
