// SPDX-License-Identifier: Apache-2.0
#include "object/stats_switch.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "memory/file_header.h"
#include "object/instance.h"
#include "object/link_file.h"

namespace skep {
namespace {

constexpr const char* kFileName = "bpf-stats";

std::atomic_ref<uint32_t> word_of(const Segment& segment) {
  return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(segment.data()));
}

FileDescriptor open_file(int directory_fd, int flags) {
  return FileDescriptor(::openat(directory_fd, kFileName, flags | O_CLOEXEC | O_NOFOLLOW, 0600));
}

}  // namespace

Result<std::unique_ptr<StatsSwitch>> StatsSwitch::open(int directory_fd) {
  const FileDescriptor fd = open_file(directory_fd, O_RDWR | O_CREAT);
  if (fd.get() < 0) return fail_full(errno);
  if (const int error = ::posix_fallocate(fd.get(), 0, kPageSize); error != 0) return fail_full(error);
  Result<Segment> word = Segment::map(fd.get(), 0, kPageSize, Access::kReadWrite);
  if (!word) return std::unexpected(word.error());
  std::unique_ptr<StatsSwitch> stats(new StatsSwitch);
  stats->word_ = *std::move(word);
  return stats;
}

bool StatsSwitch::maybe_enabled() const { return word_of(word_).load(std::memory_order_relaxed) != 0; }

bool StatsSwitch::enabled(int directory_fd) {
  if (!maybe_enabled()) return false;
  const FileDescriptor fd = open_file(directory_fd, O_RDONLY);
  if (fd.get() < 0 || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return true;
  word_of(word_).store(0, std::memory_order_relaxed);  // the flock orders this before enable()'s store
  return false;
}

Result<FileDescriptor> StatsSwitch::enable(int directory_fd) {
  FileDescriptor fd = open_file(directory_fd, O_RDONLY);
  if (fd.get() < 0) return fail(errno);
  while (::flock(fd.get(), LOCK_SH) != 0)
    if (errno != EINTR) return fail(errno);
  word_of(word_).store(1, std::memory_order_relaxed);
  return fd;
}

}  // namespace skep
