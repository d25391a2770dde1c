// SPDX-License-Identifier: Apache-2.0
#include "machine/recovery.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "machine/process_side.h"
#include "machine/waiter.h"

namespace skep {
namespace {

constexpr uint64_t kFirstSubject = uint64_t{1} << 32;  // far behind the bytes that processes lock
constexpr long kFirstPause = 20'000;                   // ns
constexpr long kLongestPause = 1'000'000;              // ns

struct flock lock_on_subject(short type, uint64_t subject) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(kFirstSubject + subject);
  lock.l_len = 1;
  return lock;
}

/// Tells the threads of a process apart, in signal handlers too.
const void* this_thread() { return &t_thread_state; }

}  // namespace

Machine::RecoveryGuard::RecoveryGuard(ProcessSide& side, uint64_t subject)
    : side_(side), subject_(subject), thread_(side.recovering[subject % side.recovering.size()]) {
  const uint64_t end = monotonic_nanoseconds() + Waiter::kLimitNanoseconds;
  for (timespec pause = {0, kFirstPause};; pause.tv_nsec = std::min(2 * pause.tv_nsec, kLongestPause)) {
    error_ = try_lock();
    if (error_ != EAGAIN) return;
    if (monotonic_nanoseconds() >= end) {
      error_ = ETIMEDOUT;
      return;
    }
    nanosleep(&pause, nullptr);
  }
}

// Whatever else stands in the way, like no descriptor to be had just now or no memory for the lock, is tried again too.
int Machine::RecoveryGuard::try_lock() {
  const void* holder = nullptr;
  // Acquire pairs with the release below and in the destructor.
  if (!thread_.compare_exchange_strong(holder, this_thread(), std::memory_order_acquire, std::memory_order_relaxed)) {
    return holder == this_thread() ? EDEADLK : EAGAIN;
  }
  struct flock lock = lock_on_subject(F_WRLCK, subject_);
  const int fd = side_.file.descriptor();
  if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    thread_.store(nullptr, std::memory_order_release);
    return EAGAIN;
  }
  if (auto window = Segment::map(fd, kHeaderOffset, kPageSize, Access::kReadOnly)) {
    keeps_lock_ = std::move(*window);
    madvise(keeps_lock_.data(), keeps_lock_.size(), MADV_DONTFORK);  // or a child would keep the lock of a dead parent
  }
  return 0;
}

Machine::RecoveryGuard::~RecoveryGuard() {
  if (error_ != 0) return;
  struct flock lock = lock_on_subject(F_UNLCK, subject_);
  fcntl(side_.file.descriptor(), F_OFD_SETLK, &lock);
  keeps_lock_ = Segment();
  thread_.store(nullptr, std::memory_order_release);
}

Machine::RecoveryGuard Machine::lock_recovery(uint64_t subject) const { return {*side_, subject}; }

}  // namespace skep
