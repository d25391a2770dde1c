// SPDX-License-Identifier: Apache-2.0
#include "memory/named_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "memory/file_header.h"
#include "memory/file_space.h"

namespace skep {
namespace {

Status write_file(int fd, uint64_t size, uint64_t reserved, const std::function<Status(const Segment&)>& fill) {
  if (auto sized = size_file(fd, kHeaderOffset + size); !sized) return sized;
  if (auto has_memory = reserve_file(fd, kHeaderOffset, reserved); !has_memory) return has_memory;
  const auto window = Segment::map(fd, kHeaderOffset, size, Access::kReadWrite);
  if (!window) return std::unexpected(window.error());
  return fill(*window);
}

Status give_name(int fd, int directory_fd, const char* name, uint64_t reserved) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (linkat(AT_FDCWD, path.c_str(), directory_fd, name, AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST) return {};
  if (errno == ENOSPC) return fail_for_space(reserved);
  return fail_because(errno, std::string("cannot give the file '") + name + "' of the skep instance its name");
}

}  // namespace

Status make_named_file(int directory_fd, const char* name, uint64_t size, uint64_t reserved,
                       const std::function<Status(const Segment&)>& fill) {
  const int fd = openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    if (errno == ENOSPC) return fail_for_space(reserved);
    return fail_because(errno, "cannot make a file in the directory of the skep instance");
  }
  Status made = write_file(fd, size, reserved, fill);
  if (made) made = give_name(fd, directory_fd, name, reserved);
  close(fd);
  return made;
}

}  // namespace skep
