// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <utility>

#include "machine/machine.h"

namespace skep {

/// The right to one slot of the machine, from construction to destruction, and a read-side critical section.
///
/// A program runs under a lease of a CPU; every mutation of a map runs under a lease of any slot. Within one thread
/// leases nest: a second one taken while the first lives is the same slot. Not movable to another thread.
/// Never keep one while waiting for anything but a map's own locks.
class Lease {
 public:
  /// Any slot: for writers.
  explicit Lease(Machine& machine);
  /// Slot `cpu`, a CPU: for programs. If this thread already runs on a CPU, that one is kept.
  struct Cpu {
    uint32_t number;
  };
  Lease(Machine& machine, Cpu cpu);
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();

  [[nodiscard]] uint32_t slot() const { return slot_; }
  /// The CPU that per-CPU operations mean: the slot itself where it is a CPU, else slot modulo CPUs.
  [[nodiscard]] uint32_t cpu() const { return cpu_; }
  [[nodiscard]] Machine& machine() const { return *machine_; }

 private:
  Machine* machine_;
  uint32_t slot_;
  uint32_t cpu_;
  bool outermost_;
};

}  // namespace skep
