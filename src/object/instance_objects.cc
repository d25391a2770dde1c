// SPDX-License-Identifier: Apache-2.0
// Objects of an instance: made, published, opened, enumerated. Who may remove one is invariant 2 of instance.h.
#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "object/directory_listing.h"
#include "object/instance.h"
#include "object/link_file.h"
#include "object/object_name.h"

namespace skep {
namespace {

// How many ids after the last one next_id() tries one by one before it reads the directory.
constexpr uint32_t kDenseIds = 32;

Status lock_shared(int fd) {
  while (::flock(fd, LOCK_SH) != 0)
    if (errno != EINTR) return fail(errno);
  return {};
}

nlink_t links(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 ? info.st_nlink : 0;
}

}  // namespace

Result<FileDescriptor> Instance::make_file(ObjectKind kind) {
  const int directory = directory_fd();
  for (bool collected = false;; collected = true) {
    FileDescriptor fd(::openat(directory, kind_directory(kind), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (fd.get() >= 0) {
      ::fchmod(fd.get(), 0600);  // whatever the umask is
      if (const Status locked = lock_shared(fd.get()); !locked) return std::unexpected(locked.error());
      return fd;
    }
    if (errno == EOPNOTSUPP || errno == EISDIR)
      return fail_because(EOPNOTSUPP, directory_ + ": its file system has no O_TMPFILE; use a tmpfs");
    if (collected || (errno != ENOSPC && errno != ENOMEM)) return fail_full(errno);
    collect_dead();
  }
}

Result<uint32_t> Instance::publish(ObjectKind kind, int fd, const std::function<void(uint32_t)>& store_id) {
  const int directory = directory_fd();
  // Keeps drop_orphaned_holds() away while holds may exist whose holder has no name yet.
  const FileDescriptor holds(::openat(directory, "holds", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (holds.get() >= 0) (void)lock_shared(holds.get());
  for (;;) {
    const uint32_t id = machine_->next_id(kind);
    store_id(id);
    const Status linked = link_file(fd, directory, ObjectName(kind, id).path());
    if (linked) return id;
    if (to_int(linked.error()) != EEXIST) return std::unexpected(linked.error());
  }
}

FileDescriptor Instance::open_object(ObjectKind kind, uint32_t id, int flags) const {
  return FileDescriptor(::openat(directory_fd(), ObjectName(kind, id).path(), flags | O_CLOEXEC | O_NOFOLLOW));
}

Result<FileDescriptor> Instance::open_by_id(ObjectKind kind, uint32_t id, int flags) {
  FileDescriptor fd = open_object(kind, id, flags);
  if (fd.get() < 0) return fail(errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0 && links(fd.get()) <= 1) {
    // Nobody references it, nothing holds it: it is dead, and whoever comes first removes it.
    std::vector<std::pair<ObjectKind, uint32_t>> pending;
    remove_dead(kind, id, pending);
    fd = FileDescriptor();
    collect_all(pending);
    return fail(ENOENT);
  }
  if (const Status locked = lock_shared(fd.get()); !locked) return std::unexpected(locked.error());
  if (links(fd.get()) == 0) return fail(ENOENT);
  return fd;
}

bool Instance::alive(ObjectKind kind, uint32_t id) {
  const FileDescriptor fd = open_object(kind, id, O_RDONLY);
  if (fd.get() < 0) return false;
  for (int attempt = 0;; ++attempt) {
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
      if (links(fd.get()) > 1) return true;
      std::vector<std::pair<ObjectKind, uint32_t>> pending;
      remove_dead(kind, id, pending);
      collect_all(pending);
      return false;
    }
    // Somebody references it, unless all that is in the way is another prober's short exclusive lock.
    if (::flock(fd.get(), LOCK_SH | LOCK_NB) == 0 || attempt >= 100) break;
    ::sched_yield();
  }
  return links(fd.get()) != 0;
}

Result<uint32_t> Instance::next_id(ObjectKind kind, uint32_t after) {
  const int directory = directory_fd();
  for (uint32_t id = after + 1; id != 0 && id - after <= kDenseIds; ++id)
    if (alive(kind, id)) return id;
  std::vector<uint32_t> ids;
  for (const std::string& name : list_directory(directory, kind_directory(kind)))
    if (const std::optional<uint32_t> id = parse_id(name); id && *id > after) ids.push_back(*id);
  std::ranges::sort(ids);
  for (const uint32_t id : ids)
    if (alive(kind, id)) return id;
  return fail(ENOENT);
}

Result<FileDescriptor> Instance::reopen(int fd, int flags) {
  char self[32];
  std::snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  FileDescriptor reopened(::open(self, flags | O_CLOEXEC));
  if (reopened.get() < 0) return fail(errno);
  return reopened;
}

Result<FileHeader> Instance::identify(int fd) const {
  const int mode = ::fcntl(fd, F_GETFL);
  if (mode < 0 || (mode & O_PATH) != 0) return fail(EBADF);
  struct stat info {};
  if (::fstat(fd, &info) != 0) return fail(EBADF);
  if (!S_ISREG(info.st_mode) || static_cast<uint64_t>(info.st_size) < kHeaderOffset) return fail(EINVAL);

  Result<FileHeader> header = fail(EINVAL);
  if ((mode & O_ACCMODE) == O_WRONLY) {
    const Result<FileDescriptor> readable = reopen(fd, O_RDONLY);
    if (!readable) return std::unexpected(readable.error());
    header = read_file_header(readable->get());
  } else {
    header = read_file_header(fd);
  }
  if (!header) return header;
  struct stat named {};
  if (::fstatat(directory_fd(), ObjectName(header->kind, header->id).path(), &named, AT_SYMLINK_NOFOLLOW) != 0 ||
      named.st_dev != info.st_dev || named.st_ino != info.st_ino)
    return fail_because(EINVAL, "the descriptor belongs to an object of another skep instance than " + directory_);
  return header;
}

}  // namespace skep
