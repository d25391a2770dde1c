// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/hash_map.h"

namespace skep {

/// BPF_MAP_TYPE_STACK_TRACE: stacks by a number that follows from them.
///
/// What it is: bpf_get_stackid() puts the stack of whoever runs the program in and gets its number; the syscall side
///   reads, takes and deletes. A HashMap from number to stack, so everything hash_table.h promises holds here.
/// Layout: that of a HASH (hash_layout.h); a value is value_size bytes: the frames, innermost first, then zeros. A
///   frame is an address of 8 bytes, or with BPF_F_STACK_BUILD_ID a bpf_stack_build_id of 32.
///     number = hash of the addresses mod roundup_pow2(max_entries)
/// Operations: keep (bpf_get_stackid), lookup, take, erase, next_key (ascending, only numbers in use).
/// Invariants
///   S1 A key is below roundup_pow2(max_entries); at most max_entries of them are there.
///   S2 A value begins with a frame that is not zero.
/// Ordering guarantees: those of hash_table.h; of two different stacks with one number and no BPF_F_REUSE_STACKID
///   exactly one gets it.
/// Progress, reclamation, locks: those of a HASH.
/// Limits and errno: update EINVAL; erase ENOENT, E2BIG beyond the numbers; keep EEXIST (another stack has the
///   number), ENOMEM (max_entries stacks are there).
/// Differences from the kernel: another hash function, so other numbers; BPF_F_FAST_STACK_CMP compares the stacks all
///   the same, so it never takes one for another; a full map can still replace (BPF_F_REUSE_STACKID).
class StackTraceMap final : public HashMap<4, false> {
 public:
  static constexpr uint32_t kMostFrames = 127;      // the kernel's default for perf_event_max_stack
  static constexpr uint32_t kAddressSize = 8;       // of a frame
  static constexpr uint32_t kBuildIdSize = 32;      // of a frame with BPF_F_STACK_BUILD_ID
  static constexpr uint64_t kFastCompare = 1 << 9;  // BPF_F_FAST_STACK_CMP
  static constexpr uint64_t kReuse = 1 << 10;       // BPF_F_REUSE_STACKID

  StackTraceMap(MapSegments segments, Machine& machine, const HashLayout& layout);

  /// How many bytes a frame has, and how many frames a value.
  [[nodiscard]] uint32_t frame_size() const { return frame_size_; }
  [[nodiscard]] uint32_t frames() const { return spec().value_size / frame_size_; }

  /// Puts a stack in: `addresses` give its number, `value` is value_size bytes to be stored. The number.
  Result<uint32_t> keep(const Lease& lease, const uint64_t* addresses, uint32_t count, const void* value,
                        uint64_t flags);

  Status next_key(const void* key, void* next) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status update_from_program(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  BatchResult update_many(const Lease& lease, const void* keys, const void* values, uint32_t count,
                          uint64_t flags) override {
    return Map::update_many(lease, keys, values, count, flags);
  }
  BatchResult erase_many(const Lease& lease, const void* keys, uint32_t count) override {
    return Map::erase_many(lease, keys, count);
  }
  [[nodiscard]] BatchSupport batch_support() const override { return {}; }
  [[nodiscard]] CheckReport check() const override;

 private:
  using Hash = HashMap<4, false>;
  [[nodiscard]] bool present(uint32_t number, void* scratch) const {
    return Hash::lookup(&number, scratch, 0).has_value();
  }

  const uint32_t numbers_;  // roundup_pow2(max_entries)
  const uint32_t frame_size_;
};

}  // namespace skep
