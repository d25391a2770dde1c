// SPDX-License-Identifier: Apache-2.0
// Inodes as owners: device, number and time of birth, since file systems give numbers again.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "storage/owner_source.h"
#include "storage/trace_text.h"

namespace skep {
namespace {

/// Of a descriptor (path "") or a path.
Result<OwnerIdentity> identity_of(int fd, const char* path) {
  struct statx info {};
  if (::statx(fd, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &info) != 0) return fail(errno);
  const uint64_t device = uint64_t{info.stx_dev_major} << 32 | info.stx_dev_minor;
  const bool has_birth = (info.stx_mask & STATX_BTIME) != 0;
  const uint64_t birth =
      has_birth ? static_cast<uint64_t>(info.stx_btime.tv_sec) * 1'000'000'000 + info.stx_btime.tv_nsec : 0;
  return OwnerIdentity{.kind = OwnerKind::kInode, .words = {info.stx_ino, device, birth}};
}

Result<OwnerIdentity> resolve(int fd) {
  if (fd < 0) return fail(EBADF);
  auto identity = identity_of(fd, "");
  if (!identity) return fail(EBADF);
  return identity;
}

OwnerTrace trace(int fd) {
  const std::string path = descriptor_path(::getpid(), fd);
  return make_trace(own_namespace("mnt"), std::to_string(::getpid()) + " " + std::to_string(fd) + " " + path);
}

/// The kernel keeps an inode's storage as long as it has the inode in memory, which nobody can tell from outside. Gone
/// is one that its first user has closed and that its path does not lead to any more.
bool gone(const OwnerIdentity& identity, const OwnerTrace& trace) {
  const std::string text = text_of(trace);
  int process = 0;
  int fd = -1;
  int length = 0;
  if (std::sscanf(text.c_str(), "%d %d %n", &process, &fd, &length) != 2 || length == 0) return false;
  const std::string path = text.substr(static_cast<size_t>(length));
  if (path.empty() || path.front() != '/' || trace.space != own_namespace("mnt")) return false;
  if (const auto now = identity_of(AT_FDCWD, path.c_str()); now && *now == identity) return false;
  char link[64];
  std::snprintf(link, sizeof link, "/proc/%d/fd/%d", process, fd);
  struct statx info {};
  if (::statx(AT_FDCWD, link, 0, STATX_INO, &info) == 0 && info.stx_ino == identity.words[0]) return false;
  return true;
}

}  // namespace

const OwnerSource kInodeOwners = {.kind = OwnerKind::kInode, .resolve = resolve, .trace = trace, .gone = gone};

}  // namespace skep
