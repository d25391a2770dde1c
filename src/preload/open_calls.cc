// SPDX-License-Identifier: Apache-2.0
// The calls that open by name. An object is never opened as a file: its bytes are skep's. As on bpffs a map with BTF
// and an iterator can be read as text, and everything else is EIO.

#include <fcntl.h>
#include <mntent.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "preload/client_path.h"
#include "preload/closing.h"
#include "preload/export.h"
#include "preload/proc_path.h"
#include "preload/real.h"
#include "preload/runtime.h"
#include "preload/text_file.h"

using namespace skep::preload;

namespace {

/// Whether a relative path of this process can lead into the pins: its working directory or a directory descriptor may
/// lie there. Set when one is opened; looked up once for what was inherited.
std::atomic<bool> relative_paths_matter{false};

bool inherited_directory_matters() {
  static const bool matters = [] {
    char directory[PATH_MAX];
    const int saved_errno = errno;
    const ssize_t length = real::readlink("/proc/self/cwd", directory, sizeof(directory));
    const bool below = length > 0 && is_below_pins({directory, static_cast<size_t>(length)});
    errno = saved_errno;
    return below;
  }();
  return matters;
}

bool is_pinned_object(int fd) {
  struct stat status = {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  char path[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = real::readlink(link.c_str(), path, sizeof(path));
  return length > 0 && is_below_pins({path, static_cast<size_t>(length)});
}

/// What bpffs answers before it opens anything; 0: go on.
int refusal(const ClientPath& path, int flags) {
  if (path.error() != 0) return path.error();
  if ((flags & O_TMPFILE) == O_TMPFILE) return EOPNOTSUPP;
  if ((flags & O_PATH) != 0) return 0;
  struct stat status = {};
  if (real::stat(path.get(), &status) != 0) return errno == ENOENT && (flags & O_CREAT) != 0 ? EACCES : errno;
  if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return EEXIST;
  if (S_ISDIR(status.st_mode)) {
    relative_paths_matter.store(true, std::memory_order_relaxed);
    return 0;
  }
  return (flags & O_DIRECTORY) != 0 ? ENOTDIR : EIO;
}

/// What a pinned object is to who opens it: its text, as a new descriptor; -1 and errno.
int open_object(const char* path, int flags) {
  const int object = real::open(path, O_RDONLY | O_CLOEXEC);
  if (object < 0) return -1;
  const int text = open_object_text(object, flags);
  const int error = errno;
  real::close(object);
  errno = error;
  return text;
}

FILE* open_object_stream(const char* path, const char* mode) {
  const int flags = std::strchr(mode, 'e') != nullptr ? O_CLOEXEC : 0;
  const int fd = open_object(path, flags);
  if (fd < 0) return nullptr;
  FILE* stream = fdopen(fd, "r");
  if (stream == nullptr) real::close(fd);
  return stream;
}

int open_for_client(int directory, const char* name, int flags, mode_t mode) {
  const ClientPath path(name);
  if (path.mapped()) {
    if (const int error = refusal(path, flags)) {
      if (error == EIO && (flags & O_ACCMODE) == O_RDONLY) return open_object(path.get(), flags);
      errno = error;
      return -1;
    }
    return real::openat(AT_FDCWD, path.get(), flags, mode);
  }
  const ProcPath proc = ProcPath::parse(name);
  if (proc.what == ProcPath::What::kDescriptorInfo || proc.what == ProcPath::What::kMounts) {
    if (const auto fd = open_proc_text(proc, flags)) return *fd;
  }
  const int fd = directory == AT_FDCWD ? real::open(name, flags, mode) : real::openat(directory, name, flags, mode);
  if (fd < 0 || name[0] == '/' || (flags & O_PATH) != 0) return fd;
  if ((relative_paths_matter.load(std::memory_order_relaxed) || inherited_directory_matters()) &&
      is_pinned_object(fd)) {
    const int text = open_object_text(fd, flags);
    const int error = errno;
    real::close(fd);
    errno = error;
    return text;
  }
  return fd;
}

bool takes_mode(int flags) { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

/// The flags of open(2) that a mode of fopen(3) stands for, as far as refusal() looks at them.
int flags_of(const char* mode) {
  int flags = std::strchr(mode, '+') != nullptr ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
  if (mode[0] == 'w' || mode[0] == 'a') flags |= O_CREAT;
  if (std::strchr(mode, 'x') != nullptr) flags |= O_EXCL;
  return flags;
}

}  // namespace

#define SKEP_MODE_ARGUMENT(mode, flags) \
  mode_t mode = 0;                      \
  if (takes_mode(flags)) {              \
    va_list arguments;                  \
    va_start(arguments, flags);         \
    mode = va_arg(arguments, mode_t);   \
    va_end(arguments);                  \
  }

SKEP_TAKES int open(const char* path, int flags, ...) {
  SKEP_MODE_ARGUMENT(mode, flags)
  return open_for_client(AT_FDCWD, path, flags, mode);
}
SKEP_TAKES_ALSO(open64, open);

SKEP_TAKES int openat(int directory, const char* path, int flags, ...) {
  SKEP_MODE_ARGUMENT(mode, flags)
  return open_for_client(directory, path, flags, mode);
}
SKEP_TAKES_ALSO(openat64, openat);

// The fortified forms, which gcc uses where no mode is given.
SKEP_TAKES int skep_open_2(const char* path, int flags) __asm__("__open_2");
int skep_open_2(const char* path, int flags) { return open_for_client(AT_FDCWD, path, flags, 0); }
SKEP_TAKES_SYMBOL_ALSO(__open64_2, skep_open_2, __open_2);

SKEP_TAKES int skep_openat_2(int directory, const char* path, int flags) __asm__("__openat_2");
int skep_openat_2(int directory, const char* path, int flags) { return open_for_client(directory, path, flags, 0); }
SKEP_TAKES_SYMBOL_ALSO(__openat64_2, skep_openat_2, __openat_2);

SKEP_TAKES int creat(const char* path, mode_t mode) {
  return open_for_client(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
SKEP_TAKES_ALSO(creat64, creat);

SKEP_TAKES FILE* fopen(const char* name, const char* mode) {
  const ClientPath path(name);
  if (path.mapped()) {
    if (const int error = refusal(path, flags_of(mode))) {
      if (error == EIO && flags_of(mode) == O_RDONLY) return open_object_stream(path.get(), mode);
      errno = error;
      return nullptr;
    }
    return real::fopen(path.get(), mode);
  }
  const ProcPath proc = ProcPath::parse(name);
  if (proc.what == ProcPath::What::kDescriptorInfo || proc.what == ProcPath::What::kMounts) {
    if (FILE* stream = open_proc_stream(proc, mode)) return stream;
  }
  return real::fopen(name, mode);
}
SKEP_TAKES FILE* fopen64(const char* name, const char* mode) { return fopen(name, mode); }

SKEP_TAKES FILE* freopen(const char* name, const char* mode, FILE* stream) {
  const ClientPath path(name);
  const int fd = serving() ? fileno(stream) : -1;
  const Closing closing(fd);
  const int error = path.mapped() ? refusal(path, flags_of(mode)) : 0;
  if (error == 0) return real::freopen(path.get(), mode, stream);
  real::fclose(stream);
  errno = error;
  return nullptr;
}
SKEP_TAKES_ALSO(freopen64, freopen);

SKEP_TAKES FILE* setmntent(const char* name, const char* mode) noexcept {
  const ProcPath proc = ProcPath::parse(name);
  if (proc.what == ProcPath::What::kMounts) {
    if (FILE* stream = open_proc_stream(proc, mode)) return stream;
  }
  return real::setmntent(name, mode);
}

SKEP_TAKES DIR* opendir(const char* name) {
  const ClientPath path(name);
  if (path.refused()) return nullptr;
  if (path.mapped()) relative_paths_matter.store(true, std::memory_order_relaxed);
  return real::opendir(path.get());
}

SKEP_TAKES int chdir(const char* name) noexcept {
  const ClientPath path(name);
  if (path.refused()) return -1;
  if (path.mapped()) relative_paths_matter.store(true, std::memory_order_relaxed);
  return real::chdir(path.get());
}
