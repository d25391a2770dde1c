// SPDX-License-Identifier: Apache-2.0
// Calls about the process: its limits, its children and its mounts.

#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "preload/client_path.h"
#include "preload/export.h"
#include "preload/real.h"

using namespace skep::preload;

namespace {

/// skep locks no memory: a loader that may not raise the limit for BPF has nothing to worry about.
bool is_needless(int resource) { return errno == EPERM && resource == RLIMIT_MEMLOCK; }

}  // namespace

SKEP_TAKES int setrlimit(__rlimit_resource_t resource, const struct rlimit* limits) noexcept {
  const int result = real::setrlimit(static_cast<int>(resource), limits);
  return result != 0 && is_needless(static_cast<int>(resource)) ? 0 : result;
}
SKEP_TAKES_ALSO(setrlimit64, setrlimit);

SKEP_TAKES int prlimit(pid_t process, __rlimit_resource resource, const struct rlimit* limits,
                       struct rlimit* old) noexcept {
  const int result = real::prlimit(process, static_cast<int>(resource), limits, old);
  const bool own = process == 0 || process == getpid();
  if (result == 0 || limits == nullptr || !own || !is_needless(static_cast<int>(resource))) return result;
  return real::prlimit(process, static_cast<int>(resource), nullptr, old);
}
SKEP_TAKES_ALSO(prlimit64, prlimit);

/// A child of vfork(2) has this process's memory and descriptors of its own: what it closes would be forgotten here.
/// That vfork(2) may be fork(2) is what POSIX says.
SKEP_TAKES pid_t vfork() noexcept { return ::fork(); }
SKEP_TAKES_ALSO(__vfork, vfork);

SKEP_TAKES int mount(const char* source, const char* target, const char* type, unsigned long flags,
                     const void* data) noexcept {
  const ClientPath path(target);
  if (path.refused()) return -1;
  if (path.mapped()) {
    // It is mounted already, as far as the program can tell: a directory is all that is needed.
    return real::access((std::string(path.get()) + "/").c_str(), F_OK);
  }
  if (type != nullptr && std::strcmp(type, "bpf") == 0) {
    errno = EPERM;
    return -1;
  }
  return real::mount(source, target, type, flags, data);
}

SKEP_TAKES int umount2(const char* target, int flags) noexcept {
  const ClientPath path(target);
  if (path.refused()) return -1;
  return path.mapped() ? real::access((std::string(path.get()) + "/").c_str(), F_OK) : real::umount2(target, flags);
}

SKEP_TAKES int umount(const char* target) noexcept { return umount2(target, 0); }
