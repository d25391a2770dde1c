// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "machine/machine.h"
#include "maps/map_spec.h"
#include "memory/result.h"

namespace skep {

/// The lock that programs and BPF_F_LOCK share: the 4 bytes of a struct bpf_spin_lock inside a map's value.
///
/// The word is 0 when free, else the ProcessTag of the holder's process: one compare-and-swap takes the lock and says
/// whose it is, and a tag that is dead never comes back, so a lock of a dead process is simply taken over. Which thread
/// of the process holds it is remembered in that thread; a thread holds one value lock at a time (as a program may).
/// The bytes are never copied from or to users, who read and write zeros there.
class ValueLock {
 public:
  enum class Taken {
    kFree,      // it was free, or its holder released it
    kFromDead,  // its holder died with it: Map::settle() completes what that one had begun
  };

  /// Takes the lock. The caller has a lease. EDEADLK: this thread holds a value lock already; ETIMEDOUT: a live holder
  /// does not let go for kLimitNanoseconds of Waiter.
  static Result<Taken> acquire(Machine& machine, std::atomic<uint32_t>& word);
  static void release(std::atomic<uint32_t>& word);
  /// For readers that cannot write: waits until the lock is free, or its holder dead, or the time of acquire() is up,
  /// and returns the word as it is then.
  static uint32_t wait_until_free(const Machine& machine, const std::atomic<uint32_t>& word);

  /// The lock inside a value, which must have one.
  static std::atomic<uint32_t>& of(void* value, const ValueFields& fields) {
    return *reinterpret_cast<std::atomic<uint32_t>*>(static_cast<std::byte*>(value) + fields.spin_lock);
  }
};

/// The 4 bytes of a struct bpf_res_spin_lock: the same word, but of many that a thread may hold at the same time. So
/// that threads which wait for each other do not wait for ever, the wait is short.
class ResilientLock {
 public:
  static constexpr uint64_t kLimitNanoseconds = 250'000'000;  // the kernel's

  /// The caller has a lease and does not hold this lock. ETIMEDOUT: a live holder does not let go.
  static Status acquire(Machine& machine, std::atomic<uint32_t>& word);
  static void release(std::atomic<uint32_t>& word) {
    word.store(0, std::memory_order_release);  // pairs with the acquire in acquire()
  }
};
static_assert(sizeof(std::atomic<uint32_t>) == 4);

}  // namespace skep
