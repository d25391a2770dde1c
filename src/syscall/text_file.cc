// SPDX-License-Identifier: Apache-2.0
#include "syscall/text_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace skep {

Result<TextFile> TextFile::make(const char* name) {
  FileDescriptor writer(::memfd_create(name, MFD_CLOEXEC));
  if (writer.get() < 0) return fail(errno);
  return TextFile(std::move(writer));
}

Status TextFile::append(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(writer_.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail(ENOMEM);
    text.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

Result<FileDescriptor> TextFile::finish() const { return Instance::reopen(writer_.get(), O_RDONLY); }

}  // namespace skep
