// SPDX-License-Identifier: Apache-2.0
#include "object/link_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

namespace skep {

std::unexpected<Errno> fail_full(int error) {
  if (error != ENOSPC && error != EDQUOT && error != ENOMEM) return fail(error);
  return fail_because(ENOMEM,
                      "the file system of the skep instance is full: enlarge it (docker run --shm-size=1g) or let "
                      "SKEP_DIR name a directory on a larger one");
}

Status link_file(int fd, int base_fd, const char* path) {
  // Only privileged callers and newer kernels may link a bare descriptor; the way through /proc is open to everybody.
  if (::linkat(fd, "", base_fd, path, AT_EMPTY_PATH) == 0) return {};
  if (errno != ENOENT && errno != EPERM && errno != EINVAL) return fail_full(errno);
  char self[32];
  std::snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  if (::linkat(AT_FDCWD, self, base_fd, path, AT_SYMLINK_FOLLOW) == 0) return {};
  return fail_full(errno);
}

}  // namespace skep
