// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace skep::preload {

// The ring buffers of this process that somebody waits for. A map's descriptor is a file, which is always ready and
// which epoll refuses; in its place stands the FIFO of the ring's RingbufBell, which the producers of all processes
// ring. Any thread; usable in a forked child.

/// How many rings are watched: nothing else here is needed while it is 0.
extern constinit std::atomic<uint32_t> watched_rings;

struct RingWatch {
  int bell = -1;       // the descriptor to wait on instead; -1: the descriptor is no ring buffer, or none can be had
  uint32_t never = 0;  // events that such a map never has, although a FIFO may have them
  int error = 0;       // where it is a ring but there is no bell
  [[nodiscard]] bool is_ring() const { return bell >= 0 || error != 0; }
};

/// The watch of the ring behind `fd`. `make`: begin one where there is none yet; without it a ring that nobody watches
/// is no ring.
RingWatch watch_ring(int fd, bool make);

/// Makes every watched bell tell its ring's state, and lets producers know that this process may sleep now.
void ring_bells();

/// The descriptors first..last are going to be closed, or have been replaced.
void forget_rings(unsigned first, unsigned last);

}  // namespace skep::preload
