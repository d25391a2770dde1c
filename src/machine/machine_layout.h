// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
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
inline constexpr uint32_t kMaxReaders = 2048;
inline constexpr uint32_t kMinWriterSlots = 32;
inline constexpr uint32_t kObjectKinds = 8;
inline constexpr uint32_t kCacheLine = 64;

/// A process of the instance: index 1..kMaxProcesses and how often that index was taken; 0 is no process.
/// Process `index` holds an OFD write lock on byte `index` of the machine file for as long as it lives.
struct ProcessTag {
  uint32_t value = 0;  // index in the low 12 bits, generation in the upper 20
  static constexpr uint32_t kIndexBits = 12;
  [[nodiscard]] static constexpr ProcessTag make(uint32_t index, uint32_t generation) {
    return {generation << kIndexBits | index};
  }
  [[nodiscard]] uint32_t index() const { return value & 0xfff; }
  [[nodiscard]] uint32_t generation() const { return value >> kIndexBits; }
  friend bool operator==(ProcessTag, ProcessTag) = default;
};
static_assert(kMaxProcesses < (1U << ProcessTag::kIndexBits));

/// The word of a slot: 0 free, else the holder's tag (upper 32 bits) and the epoch at which it was leased (lower 32).
/// One compare-and-swap takes the slot, publishes who holds it and opens the read-side critical section.
struct alignas(kCacheLine) Slot {
  std::atomic<uint64_t> word;
  std::atomic<uint32_t> nesting;  // leases of the holder on this slot; written by the holder only, stale when free
};
static_assert(sizeof(Slot) == kCacheLine);

/// The announcement of one reading thread; claimed once per thread, given back at its exit or by whoever finds it dead.
struct alignas(kCacheLine) ReaderRecord {
  std::atomic<uint32_t> owner;   // ProcessTag::value, 0 free
  std::atomic<uint32_t> active;  // 0 outside a section, else epoch | 1; written by the owning thread only
};
static_assert(sizeof(ReaderRecord) == kCacheLine);

/// What every reader and writer loads at the beginning of a section; changes once per grace period.
struct alignas(kCacheLine) EpochLine {
  std::atomic<uint32_t> epoch;        // even; advanced by two by begin_grace_period()
  std::atomic<uint32_t> need_fences;  // 1: some process cannot issue membarrier(2), so readers fence for themselves
};
static_assert(sizeof(EpochLine) == kCacheLine);

/// How far grace periods have come; touched by those who ask for them only.
struct alignas(kCacheLine) GraceLine {
  std::atomic<uint32_t> fenced;     // every reader's announcement of an epoch before this one is visible to scans
  std::atomic<uint32_t> completed;  // the latest epoch that is known to have elapsed
};

/// Counters that are touched at registration, thread start and object creation only.
struct alignas(kCacheLine) CounterLine {
  std::atomic<uint32_t> ids[kObjectKinds];  // by ObjectKind: how many ids were given out
  std::atomic<uint32_t> next_process;       // where the search for a free process index begins
  std::atomic<uint32_t> next_slot;          // spreads threads over the writers' slots
  std::atomic<uint32_t> readers_used;       // reader records ever claimed: the first this many are scanned
  std::atomic<uint32_t> next_reap;          // where the next look for reader records of the dead begins
};

/// The whole machine file from kHeaderOffset on:
///
///   0        header, shape, epoch, grace, counters            1 page
///   4096     generations[4096]: how often index p was taken   4 pages
///   20480    slots[kMaxSlots], `shape.slots` of them in use   16 pages
///   86016    readers[kMaxReaders]                             32 pages
struct MachineSegment {
  FileHeader header;
  MachineShape shape;
  EpochLine epochs;
  GraceLine grace;
  CounterLine counters;
  alignas(kPageSize) std::array<std::atomic<uint32_t>, kMaxProcesses + 1> generations;
  alignas(kPageSize) std::array<Slot, kMaxSlots> slots;
  std::array<ReaderRecord, kMaxReaders> readers;
};
static_assert(offsetof(MachineSegment, generations) == 4096);
static_assert(offsetof(MachineSegment, slots) == 20480);
static_assert(offsetof(MachineSegment, readers) == 86016);
static_assert(sizeof(MachineSegment) == 217088 && sizeof(MachineSegment) % kPageSize == 0);
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);

}  // namespace skep
