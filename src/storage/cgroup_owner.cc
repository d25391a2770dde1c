// SPDX-License-Identifier: Apache-2.0
// Cgroups as owners: the inode of the directory, which kernfs never gives twice in a hierarchy, and the hierarchy's
// device.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "storage/owner_source.h"
#include "storage/trace_text.h"

namespace skep {
namespace {

constexpr uint32_t kCgroup1Magic = 0x27e0eb;
constexpr uint32_t kCgroup2Magic = 0x63677270;

OwnerIdentity identity_of(const struct stat& info) {
  return {.kind = OwnerKind::kCgroup, .words = {info.st_ino, info.st_dev, 0}};
}

Result<OwnerIdentity> resolve(int fd) {
  struct statfs system {};
  struct stat info {};
  if (::fstatfs(fd, &system) != 0 || ::fstat(fd, &info) != 0) return fail(EBADF);
  const auto magic = static_cast<uint32_t>(system.f_type);
  if ((magic != kCgroup1Magic && magic != kCgroup2Magic) || !S_ISDIR(info.st_mode)) return fail(EBADF);
  // A directory that has been removed has no files any more.
  if (::faccessat(fd, "cgroup.procs", F_OK, 0) != 0 && (errno == ENOENT || errno == ENODEV)) return fail(ENOENT);
  return identity_of(info);
}

/// Whoever sees the same tree at the same places: cgroup and mount namespace.
uint64_t own_space() { return own_namespace("mnt") << 32 ^ own_namespace("cgroup"); }

OwnerTrace trace(int fd) {
  struct statfs system {};
  // Cgroups of the first version may be given another name while they live.
  const bool keeps_its_name = ::fstatfs(fd, &system) == 0 && static_cast<uint32_t>(system.f_type) == kCgroup2Magic;
  return make_trace(own_space(), keeps_its_name ? descriptor_path(::getpid(), fd) : "");
}

bool gone(const OwnerIdentity& identity, const OwnerTrace& trace) {
  const std::string path = text_of(trace);
  if (path.empty() || trace.space != own_space()) return false;
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return errno == ENOENT || errno == ENODEV;
  return identity_of(info) != identity;
}

}  // namespace

OwnerTrace trace_cgroup(const std::string& path) { return make_trace(own_space(), path); }

const OwnerSource kCgroupOwners = {.kind = OwnerKind::kCgroup, .resolve = resolve, .trace = trace, .gone = gone};

}  // namespace skep
