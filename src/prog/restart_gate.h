// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "machine/lease.h"
#include "machine/thread_state.h"
#include "prog/stamp_clock.h"

namespace skep {

/// What it is: a way past the lock of a table of timers, for those who only push a deadline back. That is what programs
///   do most, and a lock costs them more than everything else but the time of day. While the gate is open they announce
///   themselves in a lane of their CPU, by a plain store, and who wants to do anything else closes the gate first.
///
/// Layout: a lane for each CPU: | who passes: 0 or 1 | the CPU's own StampClock |, each in a cache line of its own
/// Operations: pass (under a lease of a CPU), close and earn (under the table's lock).
/// Invariants
///   1. While the gate is open nobody changes the table, except for those who pass, and these store deadlines only.
///   2. The gate opens after kEarned restarts under the lock with nothing between them, so that closing it, which costs
///      microseconds, is rare among them.
/// Ordering
///   1. pass() stores its announcement, then loads whether the gate is open; close() stores that it is not, has every
///      processor that runs a thread of this process pass a barrier (membarrier(2)), then loads the announcements: one
///      of the two sees the other.
///   2. Opening is a release, pass() acquires it; leaving is a release, close() acquires it.
/// Progress: pass() is wait-free; close() waits for those who pass, which is tens of instructions.
/// Fork: the child begins with a closed gate and nobody in it.
class RestartGate {
 public:
  struct alignas(64) Lane {
    std::atomic<uint32_t> passes{0};
    StampClock clock;
  };

  explicit RestartGate(uint32_t cpus) : cpus_(cpus), lanes_(std::make_unique<Lane[]>(cpus)) {}

  /// The lane of the lease, if the gate seems to be open; else null.
  [[nodiscard]] Lane* lane(const Lease& lease) const {
    return open_.load(std::memory_order_relaxed) && lease.slot() < cpus_ ? &lanes_[lease.slot()] : nullptr;
  }

  /// Does `work` beside the lock. False: the gate is closed, nothing was done.
  template <class Work>
  bool pass(Lane& lane, const Work& work) const {
#ifdef SKEP_THREAD_SANITIZER  // it knows nothing of membarrier(2)
    lane.passes.store(1, std::memory_order_seq_cst);
    const bool open = open_.load(std::memory_order_seq_cst);
#else
    lane.passes.store(1, std::memory_order_relaxed);
    compiler_barrier();
    const bool open = open_.load(std::memory_order_acquire);
#endif
    const bool done = open && work();
    lane.passes.store(0, std::memory_order_release);
    return done;
  }

  /// From here on nobody passes.
  void close() {
    if (open_.load(std::memory_order_relaxed)) [[unlikely]]
      close_open();
  }
  /// Something else than a restart has happened.
  void lose() { earned_ = 0; }
  /// There was a restart that could have passed.
  void earn() {
    if (++earned_ >= kEarned && !open_.load(std::memory_order_relaxed)) [[unlikely]]
      open();
  }
  /// In a forked child.
  void begin_anew();

  [[nodiscard]] bool is_open() const { return open_.load(); }

 private:
  static constexpr uint32_t kEarned = 1024;
  enum class Barrier { kUnknown, kWorks, kFails };

  void open();
  void close_open();

  const uint32_t cpus_;
  const std::unique_ptr<Lane[]> lanes_;
  std::atomic<bool> open_{false};
  // Guarded by the table's lock.
  uint32_t earned_ = 0;
  Barrier barrier_ = Barrier::kUnknown;
};

}  // namespace skep
