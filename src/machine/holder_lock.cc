// SPDX-License-Identifier: Apache-2.0
#include "machine/holder_lock.h"

#include <cerrno>
#include <optional>

#include "machine/waiter.h"

namespace skep {

Result<HolderLock::Taken> HolderLock::acquire_contended(Machine& machine, std::atomic<uint64_t>& word, uint64_t mine) {
  std::optional<Waiter> waiter;
  uint64_t waited_for = 0;
  for (;;) {
    uint64_t seen = word.load(std::memory_order_relaxed);
    Taken taken = Taken::kFree;
    if (seen != 0) {
      if (seen != waited_for) {
        waiter.emplace(machine);
        waited_for = seen;
      }
      const uint32_t slot = static_cast<uint32_t>(seen) - 1;
      const ProcessTag locker = holder(seen);
      // A word that names no slot or no process is none that a holder wrote: nobody will ever release it.
      const bool names_holder = slot < machine.slots() && locker != ProcessTag{};
      const auto verdict = names_holder ? waiter->wait(slot, locker) : Waiter::Verdict::kHolderGone;
      if (verdict == Waiter::Verdict::kTryAgain) continue;
      if (verdict == Waiter::Verdict::kOwnThread) return fail(EDEADLK);
      if (verdict == Waiter::Verdict::kTimedOut) return fail(ETIMEDOUT);
      taken = Taken::kFromDead;
    }
    // Acquire pairs with the release in release(); after a death, with whatever the dead holder's stores were.
    if (word.compare_exchange_strong(seen, mine, std::memory_order_acquire, std::memory_order_relaxed)) return taken;
  }
}

}  // namespace skep
