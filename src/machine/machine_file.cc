// SPDX-License-Identifier: Apache-2.0
#include "machine/machine_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "machine/machine_image.h"
#include "machine/machine_layout.h"

namespace skep {
namespace {

constexpr int kOpenAttempts = 16;

/// A path to the file behind a descriptor, whatever became of its name. Async-signal-safe.
class DescriptorPath {
 public:
  explicit DescriptorPath(int fd) {
    constexpr char kPrefix[] = "/proc/self/fd/";
    std::memcpy(text_.data(), kPrefix, sizeof(kPrefix) - 1);
    std::to_chars(text_.data() + sizeof(kPrefix) - 1, text_.data() + text_.size() - 1, fd);
  }
  [[nodiscard]] const char* text() const { return text_.data(); }

 private:
  std::array<char, 32> text_{};
};

/// Moves a descriptor to a number that applications do not count on, as far as the limit on descriptors allows.
int move_high(int fd) {
  for (const int lowest : {900, 500, 200, 100, 32}) {
    const int high = fcntl(fd, F_DUPFD_CLOEXEC, lowest);
    if (high < 0) continue;
    close(fd);
    return high;
  }
  return fd;
}

std::string path_in(int directory_fd) {
  std::array<char, 4096> text;
  const ssize_t length = readlink(DescriptorPath(directory_fd).text(), text.data(), text.size());
  if (length <= 0 || static_cast<size_t>(length) >= text.size()) return {};
  return std::string(text.data(), static_cast<size_t>(length)) + "/" + kMachineName;
}

}  // namespace

MachineFile::~MachineFile() {
  const int fd = kept_.load();
  if (fd >= 0 && is_machine(fd)) close(fd);
}

Result<int> MachineFile::open_in(int directory_fd) {
  for (int attempt = 0; attempt < kOpenAttempts; ++attempt) {
    const int fd = openat(directory_fd, kMachineName, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
      auto header = read_file_header(fd, ObjectKind::kMachine);
      if (header && header->private_size != sizeof(MachineSegment)) {
        header = fail_because(EINVAL, "the machine of this skep instance is not of this skep's size");
      }
      if (!header) {
        close(fd);
        return std::unexpected(header.error());
      }
      struct stat status;
      fstat(fd, &status);
      device_ = status.st_dev;
      inode_ = status.st_ino;
      path_ = path_in(directory_fd);
      kept_ = open_high(DescriptorPath(fd).text());
      return fd;
    }
    if (errno != ENOENT) return fail_because(errno, "cannot open the machine of the skep instance");
    if (auto created = create_machine(directory_fd); !created) return std::unexpected(created.error());
  }
  return fail_because(ENOENT, "the machine of the skep instance vanishes as soon as it is made");
}

int MachineFile::descriptor() {
  int fd = kept_.load(std::memory_order_relaxed);
  if (fd >= 0 && is_machine(fd)) return fd;
  const int opened = open_high(path_.c_str());
  if (kept_.compare_exchange_strong(fd, opened)) return opened;
  if (opened >= 0) close(opened);
  return fd;
}

int MachineFile::reopen() {
  const int fd = kept_.load(std::memory_order_relaxed);
  if (fd >= 0) {
    const int opened = open_checked(DescriptorPath(fd).text());
    if (opened >= 0) return opened;
  }
  return open_checked(path_.c_str());
}

void MachineFile::separate_from_parent() {
  const int inherited = kept_.load(std::memory_order_relaxed);
  const int opened = reopen();
  if (inherited >= 0 && is_machine(inherited)) close(inherited);
  kept_.store(opened < 0 ? -1 : move_high(opened), std::memory_order_relaxed);
}

bool MachineFile::is_machine(int fd) const {
  struct stat status;
  return fstat(fd, &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

int MachineFile::open_checked(const char* path) const {
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0 || is_machine(fd)) return fd;
  close(fd);
  return -1;
}

int MachineFile::open_high(const char* path) const {
  const int fd = open_checked(path);
  return fd < 0 ? -1 : move_high(fd);
}

}  // namespace skep
