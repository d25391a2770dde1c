// SPDX-License-Identifier: Apache-2.0
#include "memory/segment.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <utility>

#include "memory/file_header.h"
#include "memory/file_space.h"
#include "memory/own_window.h"
#include "memory/populate.h"

namespace skep {
namespace {

constexpr uint64_t kLarge = uint64_t{1} << 20;  // windows whose holes are worth two system calls

}  // namespace

Segment::Segment(Segment&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), access_(other.access_) {}

Segment& Segment::operator=(Segment&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(access_, other.access_);
  return *this;
}

Segment::~Segment() {
  if (data_ != nullptr) munmap(data_, size_);
}

Result<Segment> Segment::map(int fd, uint64_t offset, uint64_t length, Access access) {
  uint64_t end = 0;
  if (length == 0 || offset % kPageSize != 0 || __builtin_add_overflow(offset, length, &end)) {
    return fail_because(EINVAL, "a window of " + std::to_string(length) + " bytes at offset " + std::to_string(offset) +
                                    " cannot be mapped");
  }
  struct stat status;
  if (fstat(fd, &status) != 0) return fail(errno);
  if (!S_ISREG(status.st_mode) || status.st_size < 0 || static_cast<uint64_t>(status.st_size) < end) {
    return fail_because(EINVAL, "the file ends at " + std::to_string(status.st_size) +
                                    " bytes, before the end of the window at " + std::to_string(end));
  }
  Segment segment;
  segment.size_ = round_up(length, kPageSize);
  segment.access_ = access;
  const int protection = access == Access::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  const bool large = segment.size_ > kLarge;
  const int first_protection = large ? PROT_NONE : protection;
  void* data = mmap(nullptr, segment.size_, first_protection, MAP_SHARED | kOwnWindow, fd, static_cast<off_t>(offset));
  if (data == MAP_FAILED) return fail(errno);
  segment.data_ = static_cast<std::byte*>(data);
  if (large) {
    // After mlockall(MCL_FUTURE) mmap(2) fills what can be accessed with pages, holes too.
    munlock(data, segment.size_);
    if (mprotect(data, segment.size_, protection) != 0) return fail(errno);
  }
  return segment;
}

Status Segment::reserve(uint64_t offset, uint64_t length) const {
  if (!writable() || length > size_ || offset > size_ - length) {
    return fail_because(EINVAL, "only what lies inside a writable window can be reserved");
  }
  if (auto enough = check_memory_for(length); !enough) return enough;
  const uint64_t first = offset / kPageSize * kPageSize;
  const uint64_t last = round_up(offset + length, kPageSize);
  const int error = length == 0 ? 0 : populate_for_writing(data_ + first, last - first);
  if (error == ENOMEM || error == EFAULT || error == ENOSPC) return fail_for_space(length);
  if (error != 0) return fail(error);
  return {};
}

void Segment::give_back(uint64_t offset, uint64_t length) const {
  if (!writable() || length > size_ || offset > size_ - length) return;
  const uint64_t first = round_up(offset, kPageSize);
  const uint64_t last = (offset + length) / kPageSize * kPageSize;
  if (first >= last || madvise(data_ + first, last - first, MADV_REMOVE) == 0 || errno != EINVAL) return;
  munlock(data_ + first, last - first);  // mlockall(2) has locked it
  madvise(data_ + first, last - first, MADV_REMOVE);
}

}  // namespace skep
