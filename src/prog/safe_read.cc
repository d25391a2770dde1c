// SPDX-License-Identifier: Apache-2.0
#include "prog/safe_read.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace skep {
namespace {

constexpr uint64_t kPage = 4096;

/// The other way to read oneself, where a sandbox forbids process_vm_readv(2).
bool read_through_proc(void* to, uint64_t address, size_t size) {
  const int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t got = address > INT64_MAX ? -1 : pread(fd, to, size, static_cast<off_t>(address));
  close(fd);
  return got == static_cast<ssize_t>(size);
}

}  // namespace

bool safe_read(void* to, uint64_t address, size_t size) {
  if (size == 0) return true;
  const iovec local{.iov_base = to, .iov_len = size};
  const iovec remote{.iov_base = reinterpret_cast<void*>(address), .iov_len = size};
  const ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
  if (got >= 0 || (errno != EPERM && errno != ENOSYS)) return got == static_cast<ssize_t>(size);
  return read_through_proc(to, address, size);
}

std::optional<size_t> safe_read_string(char* to, uint64_t address, size_t size) {
  size_t done = 0;
  while (done < size) {
    const uint64_t to_page_end = kPage - (address + done) % kPage;
    const size_t part = std::min<uint64_t>(size - done, to_page_end);
    if (!safe_read(to + done, address + done, part)) return std::nullopt;
    if (const void* end = std::memchr(to + done, 0, part)) {
      return static_cast<size_t>(static_cast<const char*>(end) - to) + 1;
    }
    done += part;
  }
  if (size > 0) to[size - 1] = 0;
  return size;
}

}  // namespace skep
