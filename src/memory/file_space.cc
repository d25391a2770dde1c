// SPDX-License-Identifier: Apache-2.0
#include "memory/file_space.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "memory/available_memory.h"

namespace skep {
namespace {

constexpr uint64_t kWorthAsking = uint64_t{64} << 20;
constexpr uint64_t kShareToLeave = 16;  // one in so many bytes stays for others

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

Status check_memory_for(uint64_t bytes) {
  if (bytes < kWorthAsking) return {};
  const uint64_t available = available_memory();
  if (bytes <= available - available / kShareToLeave) return {};
  return fail_because(ENOMEM, "no memory for " + std::to_string(bytes) +
                                  " bytes of skep's maps: " + std::to_string(available) +
                                  " bytes are available to this process, whatever SKEP_DIR");
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
  if (auto enough = check_memory_for(length); !enough) return enough;
  while (fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOSPC || errno == ENOMEM || errno == EDQUOT) return fail_for_space(length);
    return fail(errno);
  }
  return {};
}

}  // namespace skep
