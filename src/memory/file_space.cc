// SPDX-License-Identifier: Apache-2.0
#include "memory/file_space.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace skep {
namespace {

Status check_file_size_limit(uint64_t end) {
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < end) {
    return fail_because(EFBIG,
                        "skep's files are sparse and over 1 TiB long, and the limit of this process on file sizes is " +
                            std::to_string(limit.rlim_cur) + " bytes (ulimit -f)");
  }
  return {};
}

}  // namespace

std::unexpected<Errno> fail_for_space(uint64_t bytes) {
  return fail_because(ENOMEM, "no room for " + std::to_string(bytes) +
                                  " bytes on the file system of the skep instance; SKEP_DIR names a directory on "
                                  "another, larger tmpfs");
}

Status size_file(int fd, uint64_t size) {
  if (auto allowed = check_file_size_limit(size); !allowed) return allowed;
  while (ftruncate(fd, static_cast<off_t>(size)) != 0) {
    if (errno != EINTR) return fail(errno);
  }
  return {};
}

Status reserve_file(int fd, uint64_t offset, uint64_t length) {
  if (length == 0) return {};
  if (auto allowed = check_file_size_limit(offset + length); !allowed) return allowed;
  while (fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOSPC || errno == ENOMEM || errno == EDQUOT) return fail_for_space(length);
    return fail(errno);
  }
  return {};
}

}  // namespace skep
