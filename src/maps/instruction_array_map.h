// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>

#include "maps/map.h"

namespace skep {

/// BPF_MAP_TYPE_INSN_ARRAY: instructions of one program, by their offsets: a jump table.
///
/// What it is: a client writes offsets of instructions of a program that is to be loaded, freezes the map and loads the
///   program with it. From then on the program may jump to those instructions (gotox), and clients read where they are
///   now. What a program sees in it, addresses of instructions, is not here but in each process that prepared the
///   program (DecodedCode::jump_tables): addresses mean nothing to others.
/// Layout (private window)
///     | MapHeader | kControlOffset: user | Value 0 | ... | Value max_entries - 1 |
/// Operations: lookup, next_key and update as of an array; claim() for the program that is being loaded.
/// Invariants
///   I1 `original` is not changed any more once the map is frozen (the syscall side asks under the writer's lease).
///   I2 `translated` is 0 or, from the first claim on, equal to `original`: skep runs instructions as they were loaded.
///      `compiled` is 0: nothing is compiled.
///   I3 At most one living program is `user`.
/// Ordering guarantees
///   O1 Each number is one atomic word; COMMIT of update() is the store to `original`. A lookup during a claim may see
///      some `translated` set and some not.
///   O2 claim(): the compare-and-swap of `user` is the COMMIT; numbers are stored before.
/// Progress: wait-free, claim() lock-free.
/// Reclamation: none. A program that has ended, or died while it was loaded, is no user: the next claim() asks.
/// Locks: none.
/// Limits and errno: update: index E2BIG, BPF_NOEXIST EEXIST, an offset that only loading may set EINVAL; delete
/// EINVAL;
///   claim: not frozen EINVAL, a living user EBUSY. Batches and lookup-and-delete: 524.
/// Differences from the kernel: no instruction is ever added or removed by loading, so translated = original.
class InstructionArrayMap final : public Map {
 public:
  /// One entry as clients see it.
  struct Value {
    std::atomic<uint32_t> original;    // written by clients until the map is frozen; read by everybody
    std::atomic<uint32_t> translated;  // written by claim()
    std::atomic<uint32_t> compiled;    // 0
    std::atomic<uint32_t> padding;     // 0
  };
  static_assert(sizeof(Value) == 16);
  struct Control {
    std::atomic<uint32_t> user;  // id of the program that has the map, 0: none yet; written by claim()
    uint32_t padding[3];
  };
  static_assert(sizeof(Control) == 16);

  InstructionArrayMap(MapSegments segments, Machine& machine);

  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  [[nodiscard]] CheckReport check() const override;

  [[nodiscard]] uint32_t entries() const { return spec().max_entries; }
  /// The instruction that an entry names in the program as it was loaded.
  [[nodiscard]] uint32_t original(uint32_t index) const {
    return values_[index].original.load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool is_frozen() const { return header().frozen.load(std::memory_order_acquire) != 0; }
  /// The program that claimed the map last, 0: none.
  [[nodiscard]] uint32_t user() const { return control_->user.load(std::memory_order_acquire); }
  /// Makes the map that of `program`, which is being loaded, in the place of `former`, which lives no more (or 0:
  /// nobody had it). EBUSY: somebody else was faster. Needs a writable window.
  Status claim(uint32_t program, uint32_t former);

 private:
  Control* const control_;
  Value* const values_;
};

}  // namespace skep
