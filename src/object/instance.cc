// SPDX-License-Identifier: Apache-2.0
#include "object/instance.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "object/link_file.h"
#include "object/object_name.h"

namespace skep {
namespace {

// The instance's own descriptor keeps out of the low numbers, which clients expect to be handed out in order.
constexpr int kFirstOwnDescriptor = 900;

FileDescriptor moved_out_of_the_way(FileDescriptor fd) {
  const int moved = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstOwnDescriptor);
  return moved >= 0 ? FileDescriptor(moved) : std::move(fd);
}

std::unexpected<Errno> fail_at(int error, const std::string& directory, const char* what) {
  return fail_because(error, directory + ": " + what + ": " + std::strerror(error));
}

Status check_ownership(const struct stat& info, const std::string& directory) {
  if (info.st_uid != ::geteuid())
    return fail_because(EACCES, directory + " belongs to another user; let SKEP_DIR name a directory of your own");
  if ((info.st_mode & 0077) != 0)
    return fail_because(EACCES, directory +
                                    " is open to other users; make it private (chmod 700) or let SKEP_DIR "
                                    "name another directory");
  return {};
}

}  // namespace

std::string Instance::default_directory() {
  const char* named = ::secure_getenv("SKEP_DIR");
  if (named != nullptr && *named != '\0') return named;
  return "/dev/shm/skep-" + std::to_string(::geteuid());
}

Result<std::shared_ptr<Instance>> Instance::open(const std::string& directory) {
  std::shared_ptr<Instance> instance(new Instance);
  instance->directory_ = directory;
  while (instance->directory_.size() > 1 && instance->directory_.back() == '/') instance->directory_.pop_back();
  if (::mkdir(instance->directory_.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_at(errno, directory, "cannot make the directory");

  const Result<int> fd = instance->open_directory();
  if (!fd) return std::unexpected(fd.error());
  if (char* real = ::realpath(instance->directory_.c_str(), nullptr)) {
    instance->directory_ = real;
    std::free(real);
  }
  if (const Status made = instance->make_directories(); !made) return std::unexpected(made.error());
  Result<std::shared_ptr<Machine>> machine = Machine::open(instance->directory_fd());
  if (!machine) return std::unexpected(machine.error());
  instance->machine_ = *std::move(machine);
  Result<std::unique_ptr<StatsSwitch>> stats = StatsSwitch::open(instance->directory_fd());
  if (!stats) return std::unexpected(stats.error());
  instance->stats_ = *std::move(stats);
  instance->collect_dead();
  instance->opening_ = false;
  return instance;
}

Instance::~Instance() {
  if (directory_fd_ >= 0) ::close(directory_fd_);
}

/// Opens, checks and remembers the directory; again after the client closed the descriptor.
Result<int> Instance::open_directory() const {
  FileDescriptor fd(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.get() < 0) return fail_at(errno, directory_, "cannot open the directory");
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return fail_at(errno, directory_, "cannot stat the directory");
  if (const Status ours = check_ownership(info, directory_); !ours) return std::unexpected(ours.error());
  auto* self = const_cast<Instance*>(this);
  self->device_ = info.st_dev;
  self->inode_ = info.st_ino;
  directory_fd_ = moved_out_of_the_way(std::move(fd)).release();
  return directory_fd_.load();
}

int Instance::directory_fd() const {
  const auto is_ours = [this](int fd) {
    struct stat info {};
    return fd >= 0 && ::fstat(fd, &info) == 0 && info.st_dev == device_ && info.st_ino == inode_;
  };
  if (const int fd = directory_fd_.load(); is_ours(fd)) return fd;
  const std::scoped_lock lock(reopening_);
  if (const int fd = directory_fd_.load(); is_ours(fd)) return fd;
  return open_directory().value_or(-1);
}

Status Instance::make_directories() const {
  const int fd = directory_fd();
  const auto make = [&](const char* name) -> Status {
    if (::mkdirat(fd, name, 0700) == 0 || errno == EEXIST) return {};
    if (errno == ENOSPC) return fail_full(errno);
    return fail_at(errno, directory_, "cannot make a directory in it");
  };
  for (const ObjectKind kind : kFileKinds)
    if (const Status made = make(kind_directory(kind)); !made) return made;
  for (const char* name : {"holds", "pins"})
    if (const Status made = make(name); !made) return made;
  return {};
}

}  // namespace skep
