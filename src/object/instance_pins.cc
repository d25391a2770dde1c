// SPDX-License-Identifier: Apache-2.0
// Pins: names that clients give to objects below what they take for /sys/fs/bpf.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>

#include "object/instance.h"
#include "object/link_file.h"
#include "object/object_name.h"

namespace skep {
namespace {

/// `path` without `prefix` if it is that directory or stands below it.
bool strip_directory(std::string_view& path, std::string_view prefix) {
  if (!path.starts_with(prefix) || (path.size() > prefix.size() && path[prefix.size()] != '/')) return false;
  path.remove_prefix(prefix.size());
  while (path.starts_with('/')) path.remove_prefix(1);
  return true;
}

/// Where a directory descriptor really stands.
Result<std::string> path_of(int fd) {
  char self[32];
  char target[PATH_MAX];
  std::snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  const ssize_t length = ::readlink(self, target, sizeof target);
  if (length < 0) return fail(errno);
  return std::string(target, static_cast<size_t>(length));
}

}  // namespace

Result<std::string> Instance::resolve_pin_path(int path_fd, std::string_view path) const {
  if (path.empty()) return fail(ENOENT);
  if (path.size() >= PATH_MAX) return fail(ENAMETOOLONG);
  const std::string pins = pin_directory();
  FileDescriptor base;
  if (path.starts_with('/')) {
    if (strip_directory(path, kClientPinDirectory) || strip_directory(path, pins)) {
      base = FileDescriptor(::openat(directory_fd(), "pins", O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (base.get() < 0) return fail(errno);
      path_fd = base.get();
    }
  }
  const bool names_directory = path.ends_with('/');
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  const std::string parent(slash == std::string_view::npos ? "." : path.substr(0, slash + 1));
  const std::string_view last = slash == std::string_view::npos ? path : path.substr(slash + 1);

  const FileDescriptor directory(::openat(path_fd, parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) return fail(errno);
  Result<std::string> real = path_of(directory.get());
  if (!real) return real;
  std::string_view rest = *real;
  if (!strip_directory(rest, pins)) return fail(EPERM);
  if (last.empty()) return *real;
  return *real + "/" + std::string(last) + (names_directory ? "/" : "");
}

Status Instance::pin(int fd, const std::string& resolved_path) {
  const size_t slash = resolved_path.rfind('/');
  // bpffs refuses dots in the names it makes; they are reserved.
  if (resolved_path.find('.', slash == std::string::npos ? 0 : slash) != std::string::npos) {
    struct stat info {};
    return fail(::lstat(resolved_path.c_str(), &info) == 0 ? EEXIST : EPERM);
  }
  return link_file(fd, AT_FDCWD, resolved_path.c_str());
}

Result<FileDescriptor> Instance::open_pin(const std::string& resolved_path, int flags) {
  // A FIFO or a device among the pins must not block or act: look before opening.
  const FileDescriptor found(::open(resolved_path.c_str(), O_PATH | O_CLOEXEC));
  if (found.get() < 0) return fail(errno);
  struct stat info {};
  if (::fstat(found.get(), &info) != 0) return fail(errno);
  if (!S_ISREG(info.st_mode) || static_cast<uint64_t>(info.st_size) < kHeaderOffset) return fail(EACCES);

  // The mode is checked by the operating system, against the pin's own bits.
  const Result<FileDescriptor> permitted = reopen(found.get(), flags);
  if (!permitted) return std::unexpected(permitted.error());
  const Result<FileHeader> header = identify(permitted->get());
  if (!header) return fail(EACCES);
  // A description under the object's own name, by which clients tell kinds apart.
  return open_by_id(header->kind, header->id, flags);
}

}  // namespace skep
