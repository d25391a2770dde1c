// SPDX-License-Identifier: Apache-2.0
#include "machine/recovery.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include <cerrno>
#include <utility>

#include "machine/process_side.h"

namespace skep {
namespace {

constexpr uint64_t kFirstSubject = uint64_t{1} << 32;  // far behind the bytes that processes lock
constexpr long kRetry = 1'000'000;                     // ns

struct flock lock_on_subject(short type, uint64_t subject) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(kFirstSubject + subject);
  lock.l_len = 1;
  return lock;
}

}  // namespace

Machine::RecoveryGuard::RecoveryGuard(ProcessSide& side, uint64_t subject)
    : side_(side), subject_(subject), threads_(side.recovery) {
  while (true) {
    struct flock lock = lock_on_subject(F_WRLCK, subject_);
    const int fd = side_.file.descriptor();
    if (fcntl(fd, F_OFD_SETLKW, &lock) == 0) {
      auto window = Segment::map(fd, kHeaderOffset, kPageSize, Access::kReadOnly);
      if (!window) return;
      keeps_lock_ = std::move(*window);
      madvise(keeps_lock_.data(), keeps_lock_.size(),
              MADV_DONTFORK);  // or a child would keep the lock of a dead parent
      return;
    }
    if (errno == EINTR) continue;
    // No descriptor to be had just now, or no memory for the lock.
    const timespec pause = {0, kRetry};
    nanosleep(&pause, nullptr);
  }
}

Machine::RecoveryGuard::~RecoveryGuard() {
  struct flock lock = lock_on_subject(F_UNLCK, subject_);
  fcntl(side_.file.descriptor(), F_OFD_SETLK, &lock);
}

Machine::RecoveryGuard Machine::lock_recovery(uint64_t subject) const { return {*side_, subject}; }

}  // namespace skep
