// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

#include <climits>

#include "syscall/commands.h"
#include "syscall/open_mode.h"

namespace skep {
namespace {

struct ClientPath {
  int directory_fd;
  char text[PATH_MAX];
};

Status read_path(Caller& caller, ClientPath& path) {
  path.directory_fd = (caller.attr.file_flags & BPF_F_PATH_FD) != 0 ? caller.attr.path_fd : AT_FDCWD;
  const int64_t length = read_user_string(path.text, caller.attr.pathname, sizeof path.text);
  if (length == -1) return fail(EFAULT);
  if (length == -2) return fail(ENAMETOOLONG);
  return {};
}

bool exists_elsewhere(const ClientPath& path) {
  struct stat info {};
  return ::fstatat(path.directory_fd, path.text, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

bool path_fd_without_flag(const bpf_attr& attr) { return (attr.file_flags & BPF_F_PATH_FD) == 0 && attr.path_fd != 0; }

/// A descriptor of a link is always read-only, and may not be asked for as such.
Result<FileDescriptor> as_client_gets_it(Caller& caller, FileDescriptor fd, int mode) {
  const Result<FileHeader> header = caller.instance().identify(fd.get());
  if (!header || header->kind != ObjectKind::kLink) return fd;
  if (mode != O_RDWR) return fail(EINVAL);
  return caller.instance().open_by_id(ObjectKind::kLink, header->id, O_RDONLY);
}

}  // namespace

Answer obj_pin(Caller& caller) {
  const bpf_attr& attr = caller.attr;
  if ((attr.file_flags & ~uint32_t{BPF_F_PATH_FD}) != 0 || path_fd_without_flag(attr)) return fail(EINVAL);
  const int fd = static_cast<int>(attr.bpf_fd);
  const auto object = caller.descriptors().share(fd);
  if (!object || (*object)->kind == ObjectKind::kBtf || (*object)->kind == ObjectKind::kPerfEvent) return fail(EINVAL);
  ClientPath path;
  if (const Status read = read_path(caller, path); !read) return std::unexpected(read.error());
  const Result<std::string> resolved = caller.instance().resolve_pin_path(path.directory_fd, path.text);
  if (!resolved) {
    // Linux looks for the name before it asks whose file system it is.
    if (to_int(resolved.error()) == EPERM && exists_elsewhere(path)) return fail(EEXIST);
    return std::unexpected(resolved.error());
  }
  if (const Status pinned = caller.instance().pin(fd, *resolved); !pinned) return std::unexpected(pinned.error());
  return 0;
}

Answer obj_get(Caller& caller) {
  const bpf_attr& attr = caller.attr;
  if (attr.bpf_fd != 0 || path_fd_without_flag(attr)) return fail(EINVAL);
  const Result<int> mode = open_mode(attr.file_flags, BPF_F_PATH_FD);
  if (!mode) return std::unexpected(mode.error());
  ClientPath path;
  if (const Status read = read_path(caller, path); !read) return std::unexpected(read.error());
  const Result<std::string> resolved = caller.instance().resolve_pin_path(path.directory_fd, path.text);
  if (!resolved) {
    if (to_int(resolved.error()) == EPERM) return fail(exists_elsewhere(path) ? EACCES : ENOENT);
    return std::unexpected(resolved.error());
  }
  Result<FileDescriptor> fd = caller.instance().open_pin(*resolved, *mode);
  if (fd) fd = as_client_gets_it(caller, *std::move(fd), *mode);
  if (!fd) return std::unexpected(fd.error());
  return caller.descriptors().install(*std::move(fd));
}

}  // namespace skep
