// SPDX-License-Identifier: Apache-2.0
#include "preload/text_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "preload/real.h"
#include "preload/runtime.h"
#include "syscall/map_text.h"

namespace skep::preload {

int open_text(std::string_view text, int flags) {
  const int fd = memfd_create("skep-text", (flags & O_CLOEXEC) != 0 ? MFD_CLOEXEC : 0);
  if (fd < 0) return -1;
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (text.empty() && lseek(fd, 0, SEEK_SET) == 0) return fd;
  real::close(fd);
  errno = ENOMEM;
  return -1;
}

int open_map_text(int object, int flags) {
  errno = EIO;
  if ((flags & O_ACCMODE) != O_RDONLY) return -1;
  Process* process = start();
  if (process == nullptr) return -1;
  const auto text = map_text(*process, object);
  if (text) return open_text(*text, flags);
  errno = to_int(text.error());
  return -1;
}

}  // namespace skep::preload
