// SPDX-License-Identifier: Apache-2.0
#include "machine/waiter.h"

#include <sched.h>
#include <time.h>

#include "machine/process_side.h"

namespace skep {
namespace {

constexpr uint32_t kSpins = 256;                // steps with a pause instruction
constexpr uint64_t kFirstCheck = 200'000;       // ns until the holder's life is first asked for
constexpr uint64_t kCheckInterval = 1'000'000;  // ns between further questions
constexpr uint64_t kSleepAfter = 1'000'000;     // ns after which yielding becomes sleeping
constexpr long kSleep = 100'000;                // ns

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  compiler_barrier();
#endif
}

}  // namespace

Waiter::Verdict Waiter::wait(uint32_t slot, ProcessTag locker) {
  if (steps_ == 0 && locker == machine_.self() && machine_.held_by_this_thread(slot)) return Verdict::kOwnThread;
  if (++steps_ <= kSpins) {
    relax();
    return Verdict::kTryAgain;
  }
  const uint64_t now = monotonic_nanoseconds();
  if (started_ == 0) {
    started_ = now;
    next_check_ = now + kFirstCheck;
  }
  if (now >= next_check_) {
    next_check_ = now + kCheckInterval;
    if (locker != ProcessTag{} && !machine_.alive(locker)) return Verdict::kHolderGone;
    if (now - started_ >= kLimitNanoseconds) return Verdict::kTimedOut;
  }
  if (now - started_ < kSleepAfter) {
    sched_yield();
  } else {
    const timespec pause = {0, kSleep};
    nanosleep(&pause, nullptr);
  }
  return Verdict::kTryAgain;
}

}  // namespace skep
