// SPDX-License-Identifier: Apache-2.0
// Cgroups in maps: the values of CGROUP_ARRAY. A word is the cgroup's id, which is never given to another one; a cgroup
// that was removed has nobody under it.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cstring>

#include "syscall/reference_kinds.h"

namespace skep {
namespace {

constexpr uint32_t kCgroup2Magic = 0x63677270;

Result<Reference> resolve(Process&, const OpenObject&, const void* value) {
  int fd;
  std::memcpy(&fd, value, sizeof fd);
  struct statfs system {};
  struct stat info {};
  const bool is_cgroup = ::fstatfs(fd, &system) == 0 && static_cast<uint32_t>(system.f_type) == kCgroup2Magic &&
                         ::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
  if (!is_cgroup) return fail(EBADF);
  return Reference{.word = info.st_ino, .held = {}, .file = {}};
}

}  // namespace

constinit const ReferenceKind kCgroupReferences = {
    .meaning = ValueMeaning::kCgroup, .resolve = resolve, .show = nullptr, .held = nullptr};

}  // namespace skep
