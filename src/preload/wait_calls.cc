// SPDX-License-Identifier: Apache-2.0
// Waiting for ring buffers: epoll and poll. While no ring is watched these calls are libc's and one load.

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <vector>

#include "machine/quiet_mutex.h"
#include "maps/ringbuf_bell.h"
#include "preload/export.h"
#include "preload/real.h"
#include "preload/ring_watches.h"
#include "preload/runtime.h"
#include "syscall/caller.h"

using namespace skep::preload;

namespace {

int64_t now_milliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000} + now.tv_nsec / 1'000'000;
}

/// Blocks signals for its life. No QuietSection: a handler that interrupts the wait may leave by siglongjmp(3).
class SignalsBlocked {
 public:
  SignalsBlocked() {
    const sigset_t signals = skep::QuietSection::signals();
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  [[nodiscard]] const sigset_t& before() const { return before_; }

 private:
  sigset_t before_;
};

/// Calls `wait(milliseconds, mask)` until it has something or `timeout` (negative: never) is over. It never sleeps
/// longer than kLookAgain, so that a producer that died before it rang delays nobody for longer. Signals come in inside
/// a sleep alone, and end it: `mask` is the caller's or, where he gives none, the thread's own.
template <class Wait>
int wait_in_turns(int64_t timeout, const sigset_t* mask, const Wait& wait) {
  const SignalsBlocked blocked;
  if (mask == nullptr) mask = &blocked.before();
  const int64_t end = timeout < 0 ? INT64_MAX : now_milliseconds() + timeout;
  for (int64_t left = timeout < 0 ? INT64_MAX : timeout;; left = end - now_milliseconds()) {
    ring_bells();
    const bool last = left <= skep::RingbufBell::kLookAgain;
    const int turn = last ? static_cast<int>(std::max<int64_t>(left, 0)) : skep::RingbufBell::kLookAgain;
    const int result = wait(turn, mask);
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
      if (copy_ == nullptr) copy();
      copy_[i].fd = watch.bell;
      copy_[i].events = static_cast<short>(given_[i].events & ~static_cast<int>(watch.never));
    }
  }
  [[nodiscard]] bool any() const { return copy_ != nullptr; }
  [[nodiscard]] pollfd* array() { return any() ? copy_ : given_; }
  int finish(int result) {
    if (any() && result >= 0) {
      for (nfds_t i = 0; i < count_; ++i) given_[i].revents = copy_[i].revents;
    }
    return result;
  }

 private:
  void copy() {
    if (count_ <= few_.size()) {
      copy_ = few_.data();
    } else {
      many_.resize(count_);
      copy_ = many_.data();
    }
    std::copy_n(given_, count_, copy_);
  }

  pollfd* given_;
  nfds_t count_;
  pollfd* copy_ = nullptr;
  std::array<pollfd, 16> few_;  // for signal handlers, which must not allocate
  std::vector<pollfd> many_;
};

struct PollOnce {
  pollfd* fds;
  nfds_t count;
  int operator()(int milliseconds, const sigset_t* mask) const {
    const timespec part = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1'000'000L};
    return real::ppoll(fds, count, &part, mask);
  }
};

/// Whether a descriptor that skep has not met yet, which epoll refuses, is that of a ring: a duplicate, an inherited
/// one.
bool meets_ring(int fd) {
  if (!serving()) return false;
  const bool met = start()->descriptors.share(fd).has_value() && watch_ring(fd, true).is_ring();
  errno = EPERM;
  return met;
}

}  // namespace

SKEP_TAKES int epoll_ctl(int epoll, int operation, int fd, struct epoll_event* event) noexcept {
  const int saved_errno = errno;
  const RingWatch watch = watch_ring(fd, operation == EPOLL_CTL_ADD);
  errno = saved_errno;
  if (!watch.is_ring()) {
    const int result = real::epoll_ctl(epoll, operation, fd, event);
    if (result == 0 || errno != EPERM || !meets_ring(fd)) return result;
    errno = saved_errno;
    return epoll_ctl(epoll, operation, fd, event);
  }
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
  return wait_in_turns(timeout, nullptr, [=](int turn, const sigset_t* mask) {
    return real::epoll_pwait(epoll, events, most, turn, mask);
  });
}

SKEP_TAKES int epoll_pwait(int epoll, struct epoll_event* events, int most, int timeout, const sigset_t* mask) {
  if (nobody_watches()) return real::epoll_pwait(epoll, events, most, timeout, mask);
  return wait_in_turns(timeout, mask, [=](int turn, const sigset_t* during) {
    return real::epoll_pwait(epoll, events, most, turn, during);
  });
}

SKEP_TAKES int epoll_pwait2(int epoll, struct epoll_event* events, int most, const struct timespec* timeout,
                            const sigset_t* mask) {
  if (nobody_watches()) return real::epoll_pwait2(epoll, events, most, timeout, mask);
  return wait_in_turns(milliseconds_of(timeout), mask, [=](int turn, const sigset_t* during) {
    return real::epoll_pwait(epoll, events, most, turn, during);
  });
}

SKEP_TAKES int poll(struct pollfd* fds, nfds_t count, int timeout) {
  if (!serving()) return real::poll(fds, count, timeout);
  PolledRings rings(fds, count);
  if (!rings.any() && nobody_watches()) return real::poll(fds, count, timeout);
  return rings.finish(wait_in_turns(timeout, nullptr, PollOnce{rings.array(), count}));
}

SKEP_TAKES int ppoll(struct pollfd* fds, nfds_t count, const struct timespec* timeout, const sigset_t* mask) {
  if (!serving()) return real::ppoll(fds, count, timeout, mask);
  PolledRings rings(fds, count);
  if (!rings.any() && nobody_watches()) return real::ppoll(fds, count, timeout, mask);
  return rings.finish(wait_in_turns(milliseconds_of(timeout), mask, PollOnce{rings.array(), count}));
}
