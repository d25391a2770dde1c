// SPDX-License-Identifier: Apache-2.0
// The calls that make, move, remove and resolve names, and those that change a file's attributes by name.

#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "preload/client_path.h"
#include "preload/export.h"
#include "preload/proc_path.h"
#include "preload/real.h"
#include "preload/runtime.h"

using namespace skep::preload;

namespace {

bool either_refused(const ClientPath& first, const ClientPath& second) { return first.refused() || second.refused(); }

/// Whether a name would leave or enter the pins by its own path: another file system on the kernel, where link(2) and
/// rename(2) say EXDEV.
bool crosses(const ClientPath& from, const ClientPath& to) {
  if (from.mapped() == to.mapped()) return false;
  // A relative path may stand for either side.
  const char* outside = from.mapped() ? to.get() : from.get();
  if (outside == nullptr || outside[0] != '/') return false;
  errno = EXDEV;
  return true;
}

/// The answer of readlink(2): a descriptor's name, or a target below the pins as the program knows it.
ssize_t show_link(const char* name, char* buffer, size_t size, ssize_t length) {
  const ProcPath proc = ProcPath::parse(name);
  if (proc.what == ProcPath::What::kDescriptorLink && length > 0) {
    if (const char* object = descriptor_name(proc)) {
      const size_t shown = std::min(std::strlen(object), size);
      std::memcpy(buffer, object, shown);
      return static_cast<ssize_t>(shown);
    }
  }
  if (length <= 0) return length;
  return static_cast<ssize_t>(show_as_bpffs(buffer, static_cast<size_t>(length), size));
}

ssize_t read_link(int directory, const char* name, char* buffer, size_t size) {
  const ClientPath path(name);
  if (path.refused()) return -1;
  const ssize_t length = directory == AT_FDCWD ? real::readlink(path.get(), buffer, size)
                                               : real::readlinkat(directory, path.get(), buffer, size);
  return show_link(name, buffer, size, length);
}

/// realpath(3) into a buffer of PATH_MAX bytes, seen from the program's side.
bool resolve(const char* name, char* buffer) {
  const ClientPath path(name);
  if (path.refused() || real::realpath(path.get(), buffer) == nullptr) return false;
  const size_t length = show_as_bpffs(buffer, std::strlen(buffer), PATH_MAX - 1);
  buffer[length] = '\0';
  return true;
}

}  // namespace

SKEP_TAKES int mkdirat(int directory, const char* name, mode_t mode) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::mkdirat(directory, path.get(), mode);
}

SKEP_TAKES int mkdir(const char* name, mode_t mode) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::mkdir(path.get(), mode);
}

SKEP_TAKES int mknodat(int directory, const char* name, mode_t mode, dev_t device) noexcept {
  const ClientPath path(name);
  if (!path.mapped()) return real::mknodat(directory, name, mode, device);
  errno = path.error() != 0 ? path.error() : EPERM;
  return -1;
}

SKEP_TAKES int mknod(const char* name, mode_t mode, dev_t device) noexcept {
  const ClientPath path(name);
  if (!path.mapped()) return real::mknod(name, mode, device);
  errno = path.error() != 0 ? path.error() : EPERM;
  return -1;
}

SKEP_TAKES int rmdir(const char* name) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::rmdir(path.get());
}

SKEP_TAKES int unlink(const char* name) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::unlink(path.get());
}

SKEP_TAKES int unlinkat(int directory, const char* name, int flags) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::unlinkat(directory, path.get(), flags);
}

SKEP_TAKES int remove(const char* name) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::remove(path.get());
}

SKEP_TAKES int renameat2(int from_directory, const char* from, int to_directory, const char* to,
                         unsigned flags) noexcept {
  const ClientPath old_path(from);
  const ClientPath new_path(to);
  if (either_refused(old_path, new_path) || crosses(old_path, new_path)) return -1;
  return real::renameat2(from_directory, old_path.get(), to_directory, new_path.get(), flags);
}

SKEP_TAKES int renameat(int from_directory, const char* from, int to_directory, const char* to) noexcept {
  const ClientPath old_path(from);
  const ClientPath new_path(to);
  if (either_refused(old_path, new_path) || crosses(old_path, new_path)) return -1;
  return real::renameat(from_directory, old_path.get(), to_directory, new_path.get());
}

SKEP_TAKES int rename(const char* from, const char* to) noexcept {
  const ClientPath old_path(from);
  const ClientPath new_path(to);
  if (either_refused(old_path, new_path) || crosses(old_path, new_path)) return -1;
  return real::rename(old_path.get(), new_path.get());
}

SKEP_TAKES int linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) noexcept {
  const ClientPath old_path(from);
  const ClientPath new_path(to);
  if (either_refused(old_path, new_path) || crosses(old_path, new_path)) return -1;
  return real::linkat(from_directory, old_path.get(), to_directory, new_path.get(), flags);
}

SKEP_TAKES int link(const char* from, const char* to) noexcept {
  const ClientPath old_path(from);
  const ClientPath new_path(to);
  if (either_refused(old_path, new_path) || crosses(old_path, new_path)) return -1;
  return real::link(old_path.get(), new_path.get());
}

SKEP_TAKES int symlinkat(const char* target, int directory, const char* name) noexcept {
  const ClientPath path(name);
  if (path.refused()) return -1;
  if (!path.mapped()) return real::symlinkat(target, directory, name);
  // Inside the pins the kernel follows the link, so that an absolute target has to be one it finds.
  const ClientPath inside(target);
  return inside.refused() ? -1 : real::symlinkat(inside.get(), directory, path.get());
}

SKEP_TAKES int symlink(const char* target, const char* name) noexcept { return symlinkat(target, AT_FDCWD, name); }

SKEP_TAKES ssize_t readlink(const char* name, char* buffer, size_t size) noexcept {
  return read_link(AT_FDCWD, name, buffer, size);
}

SKEP_TAKES ssize_t readlinkat(int directory, const char* name, char* buffer, size_t size) noexcept {
  return read_link(directory, name, buffer, size);
}

SKEP_TAKES ssize_t skep_readlink_chk(const char* name, char* buffer, size_t size, size_t) noexcept
    __asm__("__readlink_chk");
ssize_t skep_readlink_chk(const char* name, char* buffer, size_t size, size_t capacity) noexcept {
  if (size > capacity) abort();
  return read_link(AT_FDCWD, name, buffer, size);
}

SKEP_TAKES ssize_t skep_readlinkat_chk(int directory, const char* name, char* buffer, size_t size, size_t) noexcept
    __asm__("__readlinkat_chk");
ssize_t skep_readlinkat_chk(int directory, const char* name, char* buffer, size_t size, size_t capacity) noexcept {
  if (size > capacity) abort();
  return read_link(directory, name, buffer, size);
}

SKEP_TAKES char* realpath(const char* name, char* resolved) noexcept {
  char buffer[PATH_MAX];
  if (!resolve(name, buffer)) return nullptr;
  return resolved == nullptr ? strdup(buffer) : strcpy(resolved, buffer);
}

SKEP_TAKES char* skep_realpath_chk(const char* name, char* resolved, size_t) noexcept __asm__("__realpath_chk");
char* skep_realpath_chk(const char* name, char* resolved, size_t capacity) noexcept {
  if (capacity < PATH_MAX) abort();
  return realpath(name, resolved);
}

SKEP_TAKES char* canonicalize_file_name(const char* name) noexcept { return realpath(name, nullptr); }

SKEP_TAKES char* getcwd(char* buffer, size_t size) noexcept {
  char* result = real::getcwd(buffer, size);
  if (result == nullptr) return nullptr;
  char shown[PATH_MAX];
  const size_t length = std::strlen(result);
  if (length >= sizeof(shown)) return result;
  std::memcpy(shown, result, length);
  const size_t shown_length = show_as_bpffs(shown, length, sizeof(shown) - 1);
  if (shown_length == length && std::memcmp(shown, result, length) == 0) return result;
  shown[shown_length] = '\0';
  if (buffer == nullptr) {
    free(result);
    return strdup(shown);
  }
  if (shown_length >= size) {
    errno = ERANGE;
    return nullptr;
  }
  return strcpy(buffer, shown);
}

SKEP_TAKES char* skep_getcwd_chk(char* buffer, size_t size, size_t) noexcept __asm__("__getcwd_chk");
char* skep_getcwd_chk(char* buffer, size_t size, size_t capacity) noexcept {
  if (size > capacity) abort();
  return getcwd(buffer, size);
}

SKEP_TAKES char* get_current_dir_name() noexcept { return getcwd(nullptr, 0); }

SKEP_TAKES int chmod(const char* name, mode_t mode) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::chmod(path.get(), mode);
}

SKEP_TAKES int fchmodat(int directory, const char* name, mode_t mode, int flags) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::fchmodat(directory, path.get(), mode, flags);
}

SKEP_TAKES int chown(const char* name, uid_t user, gid_t group) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::chown(path.get(), user, group);
}

SKEP_TAKES int lchown(const char* name, uid_t user, gid_t group) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::lchown(path.get(), user, group);
}

SKEP_TAKES int fchownat(int directory, const char* name, uid_t user, gid_t group, int flags) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::fchownat(directory, path.get(), user, group, flags);
}

SKEP_TAKES int truncate(const char* name, off_t size) noexcept {
  const ClientPath path(name);
  if (path.refused()) return -1;
  // bpffs takes the call and changes nothing; the file that stands for the object must not change either.
  return path.mapped() ? real::access(path.get(), W_OK) : real::truncate(name, size);
}
SKEP_TAKES_ALSO(truncate64, truncate);

SKEP_TAKES int utimensat(int directory, const char* name, const struct timespec times[2], int flags) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::utimensat(directory, path.get(), times, flags);
}

SKEP_TAKES int utimes(const char* name, const struct timeval times[2]) noexcept {
  const ClientPath path(name);
  return path.refused() ? -1 : real::utimes(path.get(), times);
}
