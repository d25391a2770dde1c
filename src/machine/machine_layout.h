// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "memory/file_header.h"

namespace skep {

/// Sizes that every per-slot and per-CPU structure of a map is laid out with; constant for the life of an instance.
struct MachineShape {
  uint32_t cpus;   // possible CPUs of the host
  uint32_t slots;  // CPUs and writers' slots together
};

inline constexpr uint32_t kMaxSlots = 1024;
inline constexpr uint32_t kMaxProcesses = 4095;
inline constexpr uint32_t kCacheLine = 64;

/// A process of the instance: index 1..kMaxProcesses and how often that index was taken; 0 is no process.
/// Process `index` holds an OFD write lock on byte `index` of the machine file for as long as it lives.
struct ProcessTag {
  uint32_t value = 0;  // index in the low 12 bits, generation in the upper 20
  [[nodiscard]] uint32_t index() const { return value & 0xfff; }
  friend bool operator==(ProcessTag, ProcessTag) = default;
};

/// The word of a slot: 0 free, else the holder's tag (upper 32 bits) and the epoch at which it was leased (lower 32).
/// One compare-and-swap takes the slot, publishes who holds it and opens the read-side critical section.
struct alignas(kCacheLine) Slot {
  std::atomic<uint64_t> word;
  std::atomic<uint32_t> nesting;  // written by the holder only
};
static_assert(sizeof(Slot) == kCacheLine);

/// The announcement of one reading thread; claimed once per thread, given back at its exit or by whoever finds it dead.
struct alignas(kCacheLine) ReaderRecord {
  std::atomic<uint32_t> owner;   // ProcessTag::value, 0 free
  std::atomic<uint32_t> active;  // 0 outside a section, else epoch | 1; written by the owning thread only
};
static_assert(sizeof(ReaderRecord) == kCacheLine);

}  // namespace skep
