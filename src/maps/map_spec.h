// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

namespace skep {

/// Where the special fields of a map's value stand, as its BTF tells (btf layer finds them, map kinds obey them).
/// Offsets in bytes from the start of the value; kNone where there is no such field.
struct ValueFields {
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t spin_lock = kNone;      // struct bpf_spin_lock, 4 bytes
  uint32_t res_spin_lock = kNone;  // struct bpf_res_spin_lock, 4 bytes
  uint32_t timer = kNone;          // struct bpf_timer, 16 bytes
  uint32_t wq = kNone;             // struct bpf_wq, 16 bytes
  uint32_t task_work = kNone;      // struct bpf_task_work, 8 bytes

  /// Fields that may be several, and that no program can put anything into: they are zeros for good.
  struct Empty {
    enum Kind : uint32_t { kKernelPointer, kUserPointer, kRoot, kRefcount };  // kRoot: of a list or a tree
    uint32_t offset;
    Kind kind;
    [[nodiscard]] uint32_t size() const { return kind == kRoot ? 16 : kind == kRefcount ? 4 : 8; }
    bool operator==(const Empty&) const = default;
  };
  static constexpr uint32_t kMostEmpty = 11;
  uint32_t empty_count = 0;
  std::array<Empty, kMostEmpty> empty{};

  [[nodiscard]] std::span<const Empty> all_empty() const {
    return {empty.data(), std::min(empty_count, kMostEmpty)};  // files of others may say anything
  }
  [[nodiscard]] bool has(Empty::Kind kind) const {
    return std::ranges::any_of(all_empty(), [=](const Empty& field) { return field.kind == kind; });
  }
  [[nodiscard]] bool any_lock() const { return spin_lock != kNone || res_spin_lock != kNone; }
  /// Fields that own something: while the map has users, until the value goes.
  [[nodiscard]] bool any_owner() const { return timer != kNone || wq != kNone || task_work != kNone; }
  [[nodiscard]] bool any() const { return any_lock() || any_owner() || empty_count != 0; }
  bool operator==(const ValueFields&) const = default;
};

/// What a client asked for in BPF_MAP_CREATE, as far as a map kind is concerned. Lives in the map's header too.
struct MapSpec {
  uint32_t type;
  uint32_t key_size;    // bytes
  uint32_t value_size;  // bytes
  uint32_t max_entries;
  uint32_t flags;  // BPF_F_*; RDONLY and WRONLY belong to the descriptor and are never stored
  uint32_t numa_node;
  uint64_t extra;  // map_extra
  ValueFields fields;
};

}  // namespace skep
