// SPDX-License-Identifier: Apache-2.0
// The calls that look at a file by name.

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/inotify.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "preload/client_path.h"
#include "preload/export.h"
#include "preload/real.h"
#include "preload/runtime.h"

using namespace skep::preload;

namespace {

/// On bpffs an object has no size; here it is the file that the object is.
void hide_size(struct stat& status) {
  if (!S_ISREG(status.st_mode)) return;
  status.st_size = 0;
  status.st_blocks = 0;
}

template <class Call>
int look(const char* name, struct stat* status, const Call& call) {
  const ClientPath path(name);
  if (path.refused()) return -1;
  const int result = call(path.get());
  if (path.mapped() && result == 0) hide_size(*status);
  return result;
}

/// Makes the answer of statfs(2) that of a BPF file system.
void show_as_bpffs(struct statfs& status) {
  status.f_type = BPF_FS_MAGIC;
  status.f_bsize = 4096;
  status.f_frsize = 4096;
  status.f_blocks = status.f_bfree = status.f_bavail = 0;
  status.f_files = status.f_ffree = 0;
}

/// Whether what the kernel calls `link` (/proc/self/cwd, /proc/self/fd/N) lies in the pins.
bool leads_into_pins(const char* link) {
  const int saved_errno = errno;
  char path[PATH_MAX];
  const ssize_t length = real::readlink(link, path, sizeof(path));
  errno = saved_errno;
  return length > 0 && is_below_pins({path, static_cast<size_t>(length)});
}

}  // namespace

SKEP_TAKES int stat(const char* name, struct stat* status) noexcept {
  return look(name, status, [&](const char* path) { return real::stat(path, status); });
}
SKEP_TAKES_ALSO(stat64, stat);

SKEP_TAKES int lstat(const char* name, struct stat* status) noexcept {
  return look(name, status, [&](const char* path) { return real::lstat(path, status); });
}
SKEP_TAKES_ALSO(lstat64, lstat);

SKEP_TAKES int fstatat(int directory, const char* name, struct stat* status, int flags) noexcept {
  return look(name, status, [&](const char* path) { return real::fstatat(directory, path, status, flags); });
}
SKEP_TAKES_ALSO(fstatat64, fstatat);

// What stat(2) was for programs linked before glibc 2.33; the version argument only ever has one value here.
SKEP_TAKES int skep_xstat(int, const char* name, struct stat* status) noexcept __asm__("__xstat");
int skep_xstat(int, const char* name, struct stat* status) noexcept { return stat(name, status); }
SKEP_TAKES_SYMBOL_ALSO(__xstat64, skep_xstat, __xstat);

SKEP_TAKES int skep_lxstat(int, const char* name, struct stat* status) noexcept __asm__("__lxstat");
int skep_lxstat(int, const char* name, struct stat* status) noexcept { return lstat(name, status); }
SKEP_TAKES_SYMBOL_ALSO(__lxstat64, skep_lxstat, __lxstat);

SKEP_TAKES int skep_fxstatat(int, int directory, const char* name, struct stat* status, int flags) noexcept
    __asm__("__fxstatat");
int skep_fxstatat(int, int directory, const char* name, struct stat* status, int flags) noexcept {
  return fstatat(directory, name, status, flags);
}
SKEP_TAKES_SYMBOL_ALSO(__fxstatat64, skep_fxstatat, __fxstatat);

SKEP_TAKES int statx(int directory, const char* name, int flags, unsigned mask, struct statx* status) noexcept {
  const ClientPath path(name);
  if (path.refused()) return -1;
  const int result = real::statx(directory, path.get(), flags, mask, status);
  if (path.mapped() && result == 0 && S_ISREG(status->stx_mode)) {
    status->stx_size = 0;
    status->stx_blocks = 0;
  }
  return result;
}

SKEP_TAKES int statfs(const char* name, struct statfs* status) noexcept {
  const ClientPath path(name);
  if (path.refused()) return -1;
  const int result = real::statfs(path.get(), status);
  if (result != 0) return result;
  if (path.mapped() || (name[0] != '/' && leads_into_pins("/proc/self/cwd"))) show_as_bpffs(*status);
  return 0;
}
SKEP_TAKES_ALSO(statfs64, statfs);

SKEP_TAKES int fstatfs(int fd, struct statfs* status) noexcept {
  const int result = real::fstatfs(fd, status);
  if (result == 0 && leads_into_pins(("/proc/self/fd/" + std::to_string(fd)).c_str())) show_as_bpffs(*status);
  return result;
}
SKEP_TAKES_ALSO(fstatfs64, fstatfs);

SKEP_TAKES int statvfs(const char* name, struct statvfs* status) noexcept {
  const ClientPath path(name);
  if (path.refused()) return -1;
  const int result = real::statvfs(path.get(), status);
  if (path.mapped() && result == 0) {
    status->f_bsize = status->f_frsize = 4096;
    status->f_blocks = status->f_bfree = status->f_bavail = 0;
    status->f_files = status->f_ffree = status->f_favail = 0;
  }
  return result;
}
SKEP_TAKES_ALSO(statvfs64, statvfs);

// The rest only needs the right path.
#define SKEP_BY_PATH(call)       \
  const ClientPath path(name);   \
  if (path.refused()) return -1; \
  return call

SKEP_TAKES int access(const char* name, int mode) noexcept { SKEP_BY_PATH(real::access(path.get(), mode)); }

SKEP_TAKES int faccessat(int directory, const char* name, int mode, int flags) noexcept {
  SKEP_BY_PATH(real::faccessat(directory, path.get(), mode, flags));
}

SKEP_TAKES int euidaccess(const char* name, int mode) noexcept { SKEP_BY_PATH(real::euidaccess(path.get(), mode)); }
SKEP_TAKES_ALSO(eaccess, euidaccess);

SKEP_TAKES ssize_t getxattr(const char* name, const char* key, void* value, size_t size) noexcept {
  SKEP_BY_PATH(real::getxattr(path.get(), key, value, size));
}

SKEP_TAKES ssize_t lgetxattr(const char* name, const char* key, void* value, size_t size) noexcept {
  SKEP_BY_PATH(real::lgetxattr(path.get(), key, value, size));
}

SKEP_TAKES ssize_t listxattr(const char* name, char* list, size_t size) noexcept {
  SKEP_BY_PATH(real::listxattr(path.get(), list, size));
}

SKEP_TAKES ssize_t llistxattr(const char* name, char* list, size_t size) noexcept {
  SKEP_BY_PATH(real::llistxattr(path.get(), list, size));
}

SKEP_TAKES int inotify_add_watch(int fd, const char* name, uint32_t mask) noexcept {
  SKEP_BY_PATH(real::inotify_add_watch(fd, path.get(), mask));
}
