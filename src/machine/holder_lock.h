// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "machine/lease.h"
#include "memory/result.h"

namespace skep {

/// A lock word in a segment that names its holder: 0 free, else ProcessTag << 32 | slot + 1.
///
/// Taken under a lease, released by the same thread. A word that a dead process holds is taken over in one step;
/// whoever took it so repairs what the lock protects, and may die in turn: repairs must bear repeating.
class HolderLock {
 public:
  enum class Taken { kFree, kFromDead };

  /// EDEADLK: this thread holds it; ETIMEDOUT: its live holder did not let go for Waiter::kLimitNanoseconds.
  static Result<Taken> acquire(const Lease& lease, std::atomic<uint64_t>& word) {
    const uint64_t mine = uint64_t{lease.process().value} << 32 | (lease.slot() + 1);
    uint64_t seen = 0;
    // Acquire pairs with the release in release().
    if (word.compare_exchange_strong(seen, mine, std::memory_order_acquire, std::memory_order_relaxed)) [[likely]] {
      return Taken::kFree;
    }
    return acquire_contended(lease.machine(), word, mine);
  }

  /// Takes it if it is free; waits for nobody, asks nothing of the host.
  static bool try_acquire(const Lease& lease, std::atomic<uint64_t>& word) {
    uint64_t seen = 0;
    return word.compare_exchange_strong(seen, uint64_t{lease.process().value} << 32 | (lease.slot() + 1),
                                        std::memory_order_acquire, std::memory_order_relaxed);
  }
  /// As acquire(), but waits for nobody who lives: EBUSY.
  static Result<Taken> acquire_from_dead(const Lease& lease, std::atomic<uint64_t>& word) {
    if (try_acquire(lease, word)) return Taken::kFree;
    if (const ProcessTag locker = holder(word); locker != ProcessTag{} && lease.machine().alive(locker)) {
      return fail(EBUSY);
    }
    return acquire(lease, word);
  }

  /// The process that holds a lock with that word; none: it is free.
  static ProcessTag holder(uint64_t word) { return ProcessTag{static_cast<uint32_t>(word >> 32)}; }

  static void release(std::atomic<uint64_t>& word) {
    word.store(0, std::memory_order_release);  // pairs with the acquire in acquire()
  }

  /// Who holds it now; no process: nobody.
  [[nodiscard]] static ProcessTag holder(const std::atomic<uint64_t>& word) {
    return {static_cast<uint32_t>(word.load(std::memory_order_acquire) >> 32)};
  }

 private:
  static Result<Taken> acquire_contended(Machine& machine, std::atomic<uint64_t>& word, uint64_t mine);
};

}  // namespace skep
