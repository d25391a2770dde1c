// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

#include "maps/map.h"

namespace skep {

/// BPF_MAP_TYPE_STACK: a bounded last-in-first-out stack without keys.
///
/// Layout
///
///   | MapHeader | kControlOffset: lock u64 | extent u64 | version u64 | 0 up to 64 B | cell 0 | ... | cell max_entries
///   | lock:    a HolderLock extent:  bottom << 32 | count: the values stand in cells bottom, bottom + 1, ...
///   (cyclically), the newest last.
///            There is one cell more than values, so that the cell above the top is always free.
///   version: how many pushes have begun
///   cell:    value, rounded up to 8. Zeros are an empty stack.
///
/// Operations: update pushes (BPF_EXIST: drops the bottom when full), lookup peeks, take pops; keys are null.
///
/// Invariants
///   1. `extent` and `version` change under `lock` only, each by one store. Cells outside the extent belong to the
///      holder; cells inside it are constant.
///   2. A push bumps `version` before it touches the cell above the top.
///
/// Ordering guarantees
///   O1. COMMIT of push, pop and push that drops the bottom is the one store of `extent`; each sees all before it.
///   O2. A peek whose extent and copy lie between two equal versions has the value that was on top when it read the
///       extent: whatever was pushed before is complete, and no push has begun to write since.
///
/// Progress: pushes and pops exclude each other for the copy of one value; whoever waits spins, yields, then sleeps
///   (Waiter), and takes the lock in no order, so nobody passes it on to somebody who sleeps. Peek writes nothing; one
///   that kAttempts pushes have overtaken takes the lock if it may. A holder that died is found by the next comer, who
///   takes its lock over and need repair nothing, since there is but one store to commit. A holder that lives but does
///   not move (SIGSTOP) delays pushes and pops 5 seconds: ETIMEDOUT.
/// Reclamation: none. Locks: `lock`, a leaf, under a lease.
/// Limits and errno: as QUEUE (queue_map.h); EDEADLK: a signal handler of this thread interrupted its own push or pop.
/// Differs from the kernel: peeks do not wait for writers.
class StackMap final : public Map {
 public:
  static constexpr uint32_t kAttempts = 64;

  StackMap(MapSegments segments, Machine& machine);

  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  Status take(const Lease& lease, const void* key, void* value, uint64_t flags) override;
  [[nodiscard]] CheckReport check() const override;

 private:
  struct Control;
  struct Extent {
    uint32_t bottom;
    uint32_t count;
  };
  class Held;

  [[nodiscard]] Extent extent() const;
  void set_extent(uint64_t bottom, uint32_t count);
  /// The cell of the `number`-th value from the bottom.
  [[nodiscard]] uint64_t cell(const Extent& extent, uint32_t number) const;
  [[nodiscard]] std::byte* place(uint64_t cell) const { return cells_ + cell * stride_; }
  Status read_top(const Extent& extent, void* value) const;

  Control& control_;
  std::byte* const cells_;
  const uint64_t stride_;
  const uint64_t cell_count_;
  const uint32_t value_size_;
};

}  // namespace skep
