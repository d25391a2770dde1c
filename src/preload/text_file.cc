// SPDX-License-Identifier: Apache-2.0
#include "preload/text_file.h"

#include <fcntl.h>

#include <cerrno>

#include "memory/file_header.h"
#include "preload/runtime.h"
#include "syscall/link_object.h"
#include "syscall/map_text.h"
#include "syscall/text_file.h"

namespace skep::preload {

namespace {

/// Gives the file to the client, -1 and errno for an error. Of `flags` O_CLOEXEC counts.
int hand_out(Result<FileDescriptor> file, int flags) {
  if (!file) {
    errno = to_int(file.error());
    return -1;
  }
  if ((flags & O_CLOEXEC) == 0) fcntl(file->get(), F_SETFD, 0);
  return file->release();
}

Result<FileDescriptor> text_file(std::string_view text) {
  auto file = TextFile::make("skep-text");
  if (!file) return std::unexpected(file.error());
  if (const Status written = file->append(text); !written) return std::unexpected(written.error());
  return file->finish();
}

}  // namespace

int open_text(std::string_view text, int flags) { return hand_out(text_file(text), flags); }

int open_object_text(int object, int flags) {
  errno = EIO;
  if ((flags & O_ACCMODE) != O_RDONLY) return -1;
  Process* process = start();
  if (process == nullptr) return -1;
  const auto header = read_file_header(object);
  if (header && header->kind == ObjectKind::kLink) return hand_out(iterate_link(*process, object), flags);
  const auto text = map_text(*process, object);
  if (text) return open_text(*text, flags);
  errno = to_int(text.error());
  return -1;
}

}  // namespace skep::preload
