// SPDX-License-Identifier: Apache-2.0
#include "maps/value_lock.h"

#include <sched.h>

#include <cerrno>
#include <chrono>

#include "machine/waiter.h"

namespace skep {
namespace {

thread_local std::atomic<uint32_t>* held_lock = nullptr;

/// How the wait for one holder goes on: first spinning, then yielding, now and then asking whether it still lives.
class Patience {
 public:
  enum class Verdict { kTryAgain, kHolderGone, kTimedOut };

  explicit Patience(uint64_t limit) : limit_(limit) {}

  Verdict wait(const Machine& machine, ProcessTag holder) {
    if (++steps_ <= kSpins) {
      __builtin_ia32_pause();
      return Verdict::kTryAgain;
    }
    sched_yield();
    if (steps_ % kYieldsPerCheck != 0) return Verdict::kTryAgain;
    if (!machine.alive(holder)) return Verdict::kHolderGone;
    const auto limit = started_ + std::chrono::nanoseconds(limit_);
    return std::chrono::steady_clock::now() < limit ? Verdict::kTryAgain : Verdict::kTimedOut;
  }

 private:
  static constexpr uint32_t kSpins = 128;
  static constexpr uint32_t kYieldsPerCheck = 64;
  uint64_t limit_;  // ns
  uint32_t steps_ = 0;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

Result<ValueLock::Taken> take(Machine& machine, std::atomic<uint32_t>& word, uint64_t limit) {
  using Taken = ValueLock::Taken;
  const uint32_t mine = machine.self().value;
  uint32_t seen = 0;
  // Acquire pairs with the release of whoever held it, here and below.
  if (word.compare_exchange_strong(seen, mine, std::memory_order_acquire, std::memory_order_relaxed)) {
    return Taken::kFree;
  }
  Patience patience(limit);
  for (uint32_t waited_for = seen;; seen = word.load(std::memory_order_relaxed)) {
    if (seen != waited_for) {
      patience = Patience(limit);
      waited_for = seen;
    }
    Taken taken = Taken::kFree;
    if (seen != 0) {
      const auto verdict = patience.wait(machine, ProcessTag{seen});
      if (verdict == Patience::Verdict::kTimedOut) return fail(ETIMEDOUT);
      if (verdict == Patience::Verdict::kTryAgain) continue;
      taken = Taken::kFromDead;
    }
    if (word.compare_exchange_strong(seen, mine, std::memory_order_acquire, std::memory_order_relaxed)) return taken;
  }
}

}  // namespace

Result<ValueLock::Taken> ValueLock::acquire(Machine& machine, std::atomic<uint32_t>& word) {
  if (held_lock != nullptr) return fail(EDEADLK);
  const auto taken = take(machine, word, Waiter::kLimitNanoseconds);
  if (taken) held_lock = &word;
  return taken;
}

Status ResilientLock::acquire(Machine& machine, std::atomic<uint32_t>& word) {
  const auto taken = take(machine, word, kLimitNanoseconds);
  return taken ? Status{} : std::unexpected(taken.error());
}

uint32_t ValueLock::wait_until_free(const Machine& machine, const std::atomic<uint32_t>& word) {
  Patience patience(Waiter::kLimitNanoseconds);
  for (;;) {
    const uint32_t seen = word.load(std::memory_order_acquire);  // pairs with the release in release()
    if (seen == 0 || patience.wait(machine, ProcessTag{seen}) != Patience::Verdict::kTryAgain) return seen;
  }
}

void ValueLock::release(std::atomic<uint32_t>& word) {
  held_lock = nullptr;
  word.store(0, std::memory_order_release);  // pairs with the acquire in acquire()
}

}  // namespace skep
