// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "machine/deferred_queue.h"
#include "machine/machine.h"
#include "machine/machine_file.h"
#include "machine/reader_barrier.h"
#include "memory/segment.h"

namespace skep {

/// One process's side of the machine. Constant after open() except where noted.
struct Machine::ProcessSide {
  MachineFile file;
  Segment window;
  MachineSegment* segment = nullptr;
  std::atomic<uint32_t> tag{0};  // ProcessTag::value; 0: a forked child that could not register yet
  ReaderBarrier barrier;
  DeferredQueue deferred;
  std::array<std::atomic<const void*>, 64> recovering{};  // threads that hold recovery guards: recovery.h
  std::atomic<bool> listed{false};                        // in the registry
  std::atomic<uint64_t> next_liveness_check{0};           // CLOCK_MONOTONIC ns; scans ask for the living no sooner

  /// Registers this process under an index of its own, through `fd`, the description that `window` maps. False, with
  /// errno: EAGAIN when all indices are taken. Async-signal-safe.
  bool register_process(int fd);
  /// In a forked child: gives it a mapping, a registration and descriptors of its own. Async-signal-safe.
  void separate_from_parent();

  /// The identity of this process; tries again, for as long as it takes, where a forked child could not register.
  ProcessTag registered_tag();
  [[nodiscard]] bool alive(ProcessTag process);
  /// Frees the slot if its holder, as `word` names it, is dead.
  bool reap_slot(Slot& slot, uint64_t word);
  /// Frees the record if its owner is dead.
  bool reap_record(ReaderRecord& record);
  /// Frees what dead processes hold of slots [first, last).
  void reap_slots(uint32_t first, uint32_t last);
  /// True at most once per millisecond and process: now is the time to ask who lives.
  bool time_to_ask_for_the_living();

  /// A reader record of this process's own; null when living processes have all of them.
  ReaderRecord* claim_record();
  /// Frees all records of this process, none of whose threads reads any more.
  void give_back_records();

 private:
  ReaderRecord* claim_free_record(uint32_t first, uint32_t last);
  void free_what_predecessors_left(uint32_t index);
};

/// CLOCK_MONOTONIC in nanoseconds.
uint64_t monotonic_nanoseconds();

}  // namespace skep
