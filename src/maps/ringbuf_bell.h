// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "machine/machine.h"

namespace skep {

/// How the two sides of a ring wake each other across processes.
///
/// What it is: a FIFO in the instance's directory, bells/<map id> (bells/event-<id> for a perf event), that a waiting
/// process makes and puts into its epoll
///   sets in the map's place, and one word in the map that says whether anybody may be asleep. RINGBUF: the FIFO is
///   readable while there is data. USER_RINGBUF: it is writable while there is room, so "rung" means empty.
/// Ordering: who is about to sleep stores kAsleep, fences, then looks at the positions; who changes a position does so,
///   fences, then looks at the word. One of them sees the other.
/// Death: a sleeper that died costs the next waker one system call. A waker that died before it rang is made up for by
///   the sleepers, which look again every kLookAgain.
class RingbufBell {
 public:
  static constexpr int kLookAgain = 100;  // milliseconds

  /// What lies in the map's control data; zeros are a bell that nobody waits for.
  struct alignas(64) State {
    std::atomic<uint32_t> asleep;  // written by both sides; 1: somebody may wait on the FIFO
    std::atomic<uint32_t> rung;    // how often; for tests and tools
  };

  /// `filled`: the bell of a USER_RINGBUF.
  /// `id` is read when it is needed: a new object gets its id last. The FIFO's name is `prefix` and the id.
  RingbufBell(State& state, Machine& machine, const uint32_t& id, bool filled, const char* prefix = "")
      : state_(state), machine_(machine), id_(id), filled_(filled), prefix_(prefix) {}

  /// Whether ring() has anybody to wake. The caller has fenced after what it did.
  [[nodiscard]] bool awaited() const { return state_.asleep.load(std::memory_order_relaxed) != 0; }
  /// Wakes whoever sleeps; system calls only if somebody may.
  void ring();

  /// Announces that the caller is going to sleep unless what it waits for is already there, which it looks for now.
  void announce() {
    state_.asleep.store(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with the fence of whoever calls awaited()
  }
  /// Makes the FIFO `fd` tell whether `ready()`; if not, the caller may sleep on it: whoever changes that will ring.
  template <class Ready>
  void tell(int fd, const Ready& ready) {
    if (ready()) return set(fd, true);
    do {
      announce();
      if (ready()) return set(fd, true);
      set(fd, false);
      // Who rang between the look and the silence is heard now, by what he did or by his having answered the
      // announcement although somebody else has undone it meanwhile.
      if (ready()) return set(fd, true);
    } while (!awaited());
  }
  /// A descriptor of the FIFO, made where it is missing; -1 and errno when it cannot be had. The caller closes it.
  int open() const;
  /// Makes the FIFO say `ready` to whoever polls it.
  void set(int fd, bool ready) const;

 private:
  [[nodiscard]] std::string path() const;

  State& state_;
  Machine& machine_;
  const uint32_t& id_;
  const bool filled_;
  const char* const prefix_;
};

}  // namespace skep
