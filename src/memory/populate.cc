// SPDX-License-Identifier: Apache-2.0
#include "memory/populate.h"

#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "memory/file_header.h"

namespace skep {
namespace {

constexpr uint64_t kPiece = uint64_t{16} << 20;  // what one system call populates: signals are served in between
constexpr uint64_t kPagesPerCall = 256;

}  // namespace

int populate_for_writing(std::byte* start, uint64_t length) {
  while (length > 0) {
    const uint64_t piece = std::min(length, kPiece);
    if (madvise(start, piece, MADV_POPULATE_WRITE) != 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return errno == EINVAL ? populate_by_reading(start, length) : errno;
    }
    start += piece;
    length -= piece;
  }
  return 0;
}

int populate_by_reading(std::byte* start, uint64_t length) {
  std::array<iovec, kPagesPerCall> pages;
  std::array<char, kPagesPerCall> bytes;
  while (length > 0) {
    const uint64_t count = std::min(length / kPageSize, kPagesPerCall);
    for (uint64_t i = 0; i < count; ++i) pages[i] = {start + i * kPageSize, 1};
    const iovec into = {bytes.data(), count};
    const ssize_t touched = process_vm_readv(getpid(), &into, 1, pages.data(), count, 0);
    if (touched <= 0) return touched < 0 ? errno : EFAULT;
    start += static_cast<uint64_t>(touched) * kPageSize;
    length -= static_cast<uint64_t>(touched) * kPageSize;
  }
  return 0;
}

}  // namespace skep
