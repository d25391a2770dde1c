// SPDX-License-Identifier: Apache-2.0
#include "maps/ringbuf_bell.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace skep {
namespace {

constexpr int kCapacity = 4096;  // the least that a FIFO can hold

void drain(int fd) {
  std::array<char, kCapacity> bytes;
  while (read(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size())) {
  }
}

void fill(int fd) {
  static constexpr std::array<char, kCapacity> kBytes{};
  while (write(fd, kBytes.data(), kBytes.size()) > 0) {
  }
}

bool polls(int fd, short event) {
  pollfd state = {.fd = fd, .events = event, .revents = 0};
  return poll(&state, 1, 0) > 0 && (state.revents & event) != 0;
}

}  // namespace

std::string RingbufBell::path() const { return machine_.directory() + "/bells/" + prefix_ + std::to_string(id_); }

int RingbufBell::open() const {
  const std::string name = path();
  for (int attempt = 0; attempt < 3; ++attempt) {
    // Both ends: no writer ever meets a FIFO without a reader, and none is hung up on.
    const int fd = ::open(name.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
      if (filled_) fcntl(fd, F_SETPIPE_SZ, kCapacity);
      return fd;
    }
    if (errno != ENOENT) return -1;
    if (mkdir((machine_.directory() + "/bells").c_str(), 0700) != 0 && errno != EEXIST) return -1;
    if (mkfifo(name.c_str(), 0600) != 0 && errno != EEXIST) return -1;
  }
  return -1;
}

void RingbufBell::set(int fd, bool ready) const {
  if (filled_) {
    if (ready) return drain(fd);
    return polls(fd, POLLOUT) ? fill(fd) : void();
  }
  if (!ready) return polls(fd, POLLIN) ? drain(fd) : void();
  if (polls(fd, POLLIN)) return;
  [[maybe_unused]] const ssize_t written = write(fd, "", 1);
}

void RingbufBell::ring() {
  if (state_.asleep.exchange(0, std::memory_order_acq_rel) == 0) return;
  state_.rung.fetch_add(1, std::memory_order_relaxed);
  const int saved_errno = errno;
  // No descriptor is kept: an application closes numbers that it does not know, and this is rare.
  const int fd = ::open(path().c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
  if (fd >= 0) {
    if (filled_) {
      drain(fd);
    } else {
      [[maybe_unused]] const ssize_t written = write(fd, "", 1);
    }
    close(fd);
  }
  errno = saved_errno;
}

}  // namespace skep
