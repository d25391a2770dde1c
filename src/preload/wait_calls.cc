// SPDX-License-Identifier: Apache-2.0
// Waiting for ring buffers: epoll and poll. While no ring is watched these calls are libc's and one load.

#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <vector>

#include "maps/ringbuf_bell.h"
#include "preload/export.h"
#include "preload/real.h"
#include "preload/ring_watches.h"
#include "preload/runtime.h"

using namespace skep::preload;

namespace {

int64_t now_milliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000} + now.tv_nsec / 1'000'000;
}

/// Calls `wait(milliseconds)` until it has something or `timeout` (negative: never) is over. It never sleeps longer
/// than kLookAgain, so that a producer that died before it rang delays nobody for longer.
template <class Wait>
int wait_in_turns(int64_t timeout, const Wait& wait) {
  const int64_t end = timeout < 0 ? INT64_MAX : now_milliseconds() + timeout;
  for (int64_t left = timeout < 0 ? INT64_MAX : timeout;; left = end - now_milliseconds()) {
    ring_bells();
    const bool last = left <= skep::RingbufBell::kLookAgain;
    const int turn = last ? static_cast<int>(std::max<int64_t>(left, 0)) : skep::RingbufBell::kLookAgain;
    const int result = wait(turn);
    if (result != 0 || last) return result;
  }
}

bool nobody_watches() { return watched_rings.load(std::memory_order_relaxed) == 0; }

int64_t milliseconds_of(const timespec* timeout) {
  if (timeout == nullptr) return -1;
  return timeout->tv_sec * int64_t{1000} + (timeout->tv_nsec + 999'999) / 1'000'000;
}

/// The array of a poll(2) with the bells in place of rings.
class PolledRings {
 public:
  PolledRings(pollfd* given, nfds_t count) : given_(given), count_(count) {
    for (nfds_t i = 0; i < count_; ++i) {
      const RingWatch watch = watch_ring(given_[i].fd, true);
      if (watch.bell < 0) continue;
      if (copy_.empty()) copy_.assign(given_, given_ + count_);
      copy_[i].fd = watch.bell;
      copy_[i].events = static_cast<short>(given_[i].events & ~static_cast<int>(watch.never));
    }
  }
  [[nodiscard]] bool any() const { return !copy_.empty(); }
  [[nodiscard]] pollfd* array() { return any() ? copy_.data() : given_; }
  int finish(int result) {
    if (any() && result >= 0) {
      for (nfds_t i = 0; i < count_; ++i) given_[i].revents = copy_[i].revents;
    }
    return result;
  }

 private:
  pollfd* given_;
  nfds_t count_;
  std::vector<pollfd> copy_;
};

}  // namespace

SKEP_TAKES int epoll_ctl(int epoll, int operation, int fd, struct epoll_event* event) noexcept {
  const int saved_errno = errno;
  const RingWatch watch = watch_ring(fd, operation == EPOLL_CTL_ADD);
  errno = saved_errno;
  if (!watch.is_ring()) return real::epoll_ctl(epoll, operation, fd, event);
  if (watch.bell < 0) {
    errno = watch.error;
    return -1;
  }
  if (event == nullptr) return real::epoll_ctl(epoll, operation, watch.bell, event);
  epoll_event changed = *event;
  changed.events &= ~watch.never;
  return real::epoll_ctl(epoll, operation, watch.bell, &changed);
}

SKEP_TAKES int epoll_wait(int epoll, struct epoll_event* events, int most, int timeout) {
  if (nobody_watches()) return real::epoll_wait(epoll, events, most, timeout);
  return wait_in_turns(timeout, [&](int turn) { return real::epoll_wait(epoll, events, most, turn); });
}

SKEP_TAKES int epoll_pwait(int epoll, struct epoll_event* events, int most, int timeout, const sigset_t* mask) {
  if (nobody_watches()) return real::epoll_pwait(epoll, events, most, timeout, mask);
  return wait_in_turns(timeout, [&](int turn) { return real::epoll_pwait(epoll, events, most, turn, mask); });
}

SKEP_TAKES int epoll_pwait2(int epoll, struct epoll_event* events, int most, const struct timespec* timeout,
                            const sigset_t* mask) {
  if (nobody_watches()) return real::epoll_pwait2(epoll, events, most, timeout, mask);
  return wait_in_turns(milliseconds_of(timeout),
                       [&](int turn) { return real::epoll_pwait(epoll, events, most, turn, mask); });
}

SKEP_TAKES int poll(struct pollfd* fds, nfds_t count, int timeout) {
  if (!serving()) return real::poll(fds, count, timeout);
  PolledRings rings(fds, count);
  if (!rings.any() && nobody_watches()) return real::poll(fds, count, timeout);
  return rings.finish(wait_in_turns(timeout, [&](int turn) { return real::poll(rings.array(), count, turn); }));
}

SKEP_TAKES int ppoll(struct pollfd* fds, nfds_t count, const struct timespec* timeout, const sigset_t* mask) {
  if (!serving()) return real::ppoll(fds, count, timeout, mask);
  PolledRings rings(fds, count);
  if (!rings.any() && nobody_watches()) return real::ppoll(fds, count, timeout, mask);
  return rings.finish(wait_in_turns(milliseconds_of(timeout), [&](int turn) {
    const timespec part = {.tv_sec = turn / 1000, .tv_nsec = turn % 1000 * 1'000'000L};
    return real::ppoll(rings.array(), count, &part, mask);
  }));
}
