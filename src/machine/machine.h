// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "machine/machine_layout.h"
#include "machine/thread_state.h"
#include "memory/result.h"
#include "memory/segment.h"

namespace skep {

/// The machine that an instance's programs and writers run on: CPUs to lease, epochs, and who is alive.
///
/// One per instance and process, over the instance's `machine` segment; every process of the instance maps the same
/// one. What it gives:
/// - a *lease* of a slot: exclusive use of that slot's per-slot data in every map ("preemption disabled on CPU n"),
///   and at the same time a read-side critical section;
/// - a *reader section*: a read-side critical section that dirties no shared cache line (one plain store to a line
///   that belongs to this thread alone);
/// - *grace periods* over both;
/// - *liveness*: whether the process that holds a slot still exists, across PID namespaces.
///
/// All functions are safe in any thread, and after fork(2) in the child, which becomes a process of its own.
class Machine {
 public:
  /// Opens, or creates, the machine of the instance directory `directory_fd`. ENOMEM: the file system is full.
  /// EINVAL: a machine of another layout version, or not one at all.
  static Result<std::shared_ptr<Machine>> open(int directory_fd);
  ~Machine();
  struct ProcessSide;  // what is not in the segment: process_side.h, for this layer only

  /// Number of possible CPUs of the host (the kernel's num_possible_cpus(); per-CPU values have this many parts).
  [[nodiscard]] uint32_t cpus() const { return shape_.cpus; }
  /// Number of slots: the CPUs first, then the writers' slots. At most kMaxSlots.
  [[nodiscard]] uint32_t slots() const { return shape_.slots; }
  [[nodiscard]] MachineShape shape() const { return shape_; }
  /// The instance directory, absolute.
  [[nodiscard]] std::string directory() const;

  /// The next id of a kind: ascending, unique until 2^31 were given out; never given twice in a row.
  uint32_t next_id(ObjectKind kind);

  // -- leases: see machine/lease.h, which is what callers use ------------------------------------------------------
  /// Leases any slot for a writer; never fails, waits with yields while all slots are taken by live processes.
  uint32_t acquire_slot();
  /// Leases slot `cpu` (< cpus()); waits likewise. Where the thread holds a CPU already, that one again; where it holds
  /// a writer's slot, the CPU besides.
  uint32_t acquire_cpu(uint32_t cpu);
  /// Ends one lease of `slot` by this thread; the last one frees it. Nothing in a child forked under the lease.
  void release_slot(uint32_t slot);

  // -- liveness ----------------------------------------------------------------------------------------------------
  /// The identity under which this process holds slots; compare with holder().
  [[nodiscard]] ProcessTag self() const;
  /// Who holds `slot` now; no process (tag 0) when it is free.
  [[nodiscard]] ProcessTag holder(uint32_t slot) const;
  /// Whether the process still exists. Costs a file system call: ask only after waiting for a while.
  [[nodiscard]] bool alive(ProcessTag process) const;
  /// Whether the calling thread itself holds `slot` (so waiting for it would wait forever).
  [[nodiscard]] bool held_by_this_thread(uint32_t slot) const;

  /// Excludes every other recoverer of `subject` (a map id), in this and other processes, while the returned guard
  /// lives; released by the operating system if this process dies. Slow: for repair only. Bounded: the guard's error()
  /// is EDEADLK or ETIMEDOUT where it is not held. See machine/recovery.h.
  class RecoveryGuard;
  RecoveryGuard lock_recovery(uint64_t subject) const;

  // -- grace periods -----------------------------------------------------------------------------------------------
  /// A point in time, comparable across processes; stored in segments.
  using Epoch = uint32_t;
  /// Begins a grace period: everything unlinked before this call is unreachable once elapsed(epoch).
  Epoch begin_grace_period();
  /// Whether every lease and reader section that was open at begin_grace_period() has ended. Never blocks.
  bool elapsed(Epoch epoch);
  /// The grace period that begins next, which the first elapsed() of it begins. What was made unreachable before this
  /// call, with a locked instruction or fence in between, is so for everybody once it has elapsed. Costs a load.
  [[nodiscard]] Epoch next_grace_period() const;
  /// Whether somebody has found out already that the epoch has elapsed. Costs a load.
  [[nodiscard]] bool known_elapsed(Epoch epoch) const;
  /// Waits until elapsed(begin_grace_period()). The caller holds no lease and no reader section.
  void synchronize();
  /// Runs `callback` in this process after a grace period, in whichever of its threads calls run_deferred() then, with
  /// no lock of the machine held. What has not run when the machine is destroyed is waited for briefly, then dropped
  /// without running. A forked child inherits a copy of the queue.
  void defer(std::function<void()> callback);
  /// Runs the callbacks of this process whose time has come; called by allocation and release paths. One relaxed load
  /// when there are none.
  void run_deferred();

  // -- reader sections: see machine/reader_section.h ---------------------------------------------------------------
  /// The record of the calling thread, claimed on first use; null when all of them are taken by living processes.
  ReaderRecord* reader_record();

 private:
  friend class Lease;
  friend class ReaderSection;
  friend class MachineRegistry;

  Machine();
  ThreadState& thread_state() const {
    ThreadState* const state = t_thread_state;
    return state->ready_serial == serial_ ? *state : find_thread_state();
  }
  ThreadState& find_thread_state() const;
  uint32_t acquire_slot(ThreadState& state);
  uint32_t acquire_cpu(ThreadState& state, uint32_t cpu);
  uint32_t acquire_any_cpu(ThreadState& state, uint32_t preferred);
  void release_slot(ThreadState& state, uint32_t slot);
  void finish_deferred();
  void begin_section_slowly(ThreadState& state);
  void end_section_slowly(ThreadState& state);

  const uint64_t serial_;  // never given twice in a process
  MachineShape shape_{};
  std::unique_ptr<ProcessSide> side_;
};

}  // namespace skep
