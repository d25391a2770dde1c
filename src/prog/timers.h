// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "machine/machine.h"
#include "prog/restart_gate.h"
#include "prog/runtime.h"
#include "prog/task_work.h"
#include "prog/timer_table.h"

namespace skep {

/// The timer whose callback this thread runs; null: none.
extern thread_local const TimerField* t_running_timer;

/// Where a program's bpf_timer is.
struct TimerPlace {
  TimerField* field;
  void* value;  // of the map's element
  const MapBinding* map;
};

/// What it is: the bpf_timers and bpf_wqs of one process: what its programs do to them, and the thread that runs their
/// callbacks.
///
/// Layout: the fields stand in the values of maps, which other processes share (timer_field.h); callbacks and times
///   stand here (timer_table.h). A timer belongs to the process that set its callback last; only that one can start it,
///   any can cancel it or set a callback of its own, which moves the timer.
///   A bpf_wq is a timer that is always due at once and cannot be cancelled.
/// Operations: init, set_callback, start, cancel: what the helpers do and return, negative errno values included.
/// Invariants
///   1. Callbacks of one process run one after the other, in its timer thread, each under a lease of a CPU of its own.
///   2. A callback begins only while the field names its record, and after the time that the last start asked for.
///   3. What a record keeps alive (program, map) goes when the timer is cancelled, or at most kSweepInterval (and the
///      length of the callbacks then under way) after it was moved, its value went, or its map lost its users.
/// Ordering: after cancel() returned 0 or 1 no callback runs, in whatever process, and what the last one did is
/// visible.
///   Of several that cancel at the same time each waits.
/// Progress: start takes a spin lock that is held for tens of instructions, unless it only pushes a deadline back and
///   may pass the lock by (restart_gate.h); cancel waits for the end of a running
///   callback. The thread is started with the first timer that has a callback. It sleeps until the first timer is due,
///   but not longer than kSweepInterval while there are timers.
/// Fork: a child has no timers and no thread; the parent's go on in the parent.
/// Death: a process that dies takes its timers along. Their fields name a dead process from then on: such a timer is
///   idle, without a callback, and may be initialised anew.
/// Locks: one spin lock, a leaf. Not for signal handlers, which may have interrupted its holder.
/// Limits and errno: see the operations; ENOMEM beyond TimerTable::kMost timers.
/// Where it differs from the kernel: docs/differences.md.
class Timers {
 public:
  /// Callbacks run in `environment`, with `timers` being this; what it points to outlives this.
  Timers(Machine& machine, const RunEnvironment& environment);
  /// Waits for a callback that is running.
  ~Timers();
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;

  /// bpf_timer_init(). EINVAL: no such clock; EBUSY: initialised already; EPERM: the map has no users.
  int64_t init(const TimerPlace& place, uint64_t flags);
  /// bpf_timer_set_callback(): `function` is the index of its first instruction in `code`. EINVAL: not initialised;
  /// EPERM: the map has no users; ENOMEM.
  int64_t set_callback(const TimerPlace& place, const DecodedCode& code, uint32_t function);
  /// bpf_wq_init(). As init(); EINVAL: flags.
  int64_t init_work(const TimerPlace& place, uint64_t flags);
  /// bpf_wq_start(): has the callback run once more, unless it is going to anyway. EINVAL as start().
  int64_t start_work(const TimerPlace& place, uint64_t flags, const Lease& lease);
  /// bpf_timer_start(): nanoseconds from now, or with BPF_F_TIMER_ABS on the timer's clock. EINVAL: flags; not
  /// initialised; no callback, or one of another process.
  int64_t start(const TimerPlace& place, uint64_t nanoseconds, uint64_t flags, const Lease& lease);
  /// bpf_timer_cancel(): 1 where it was armed, else 0. EINVAL: not initialised; EDEADLK: from inside its own callback,
  /// or from inside one while another process runs this timer's.
  int64_t cancel(const TimerPlace& place);

  /// Has fork(2) keep the locks of all Timers whole. Implied by making one; called where the order of registrations
  /// counts.
  static void watch_forks();

  /// Whether the timer thread was started in this process.
  [[nodiscard]] bool has_thread() const { return thread_ != nullptr; }
  /// How many timers have a callback here, those included whose fields are gone.
  [[nodiscard]] uint32_t count();
  /// Whether the thread looks at the records again in time. For tests.
  [[nodiscard]] bool looks_after_records();
  /// Whether restarts pass the lock by now. For tests.
  [[nodiscard]] bool gate_is_open() const { return gate_.is_open(); }

 private:
  class Held;  // the lock
  friend class TimerForks;

  static constexpr uint64_t kSweepSlack = 1024;
  static constexpr uint64_t kSweepInterval = 1'000'000'000;  // ns
  static constexpr uint32_t kSweepAtOnce = 256;              // records that are looked at under one hold of the lock

  int64_t initialise(const TimerPlace& place, uint32_t clock);
  bool push_back(uint64_t word, uint64_t nanoseconds, const Lease& lease);
  int64_t arm(const TimerPlace& place, uint64_t word, uint64_t due, uint32_t pinned_cpu);
  [[nodiscard]] bool has_users(const MapBinding& map) const;
  [[nodiscard]] bool is_dead(uint64_t word) const;
  int64_t cancel_foreign(const TimerPlace& place, uint64_t word);
  [[nodiscard]] bool must_wait(const TimerField& field) const;
  int64_t wait_for_callback(TimerField& field) const;
  std::optional<uint32_t> take_record(std::vector<TimerTable::Record>& kept);
  void sweep(std::vector<TimerTable::Record>& kept);
  void sweep_part(uint32_t begin, std::vector<TimerTable::Record>& kept);
  bool start_thread();
  void wake();

  // The timer thread.
  void work();
  void sleep_until(uint64_t due, uint32_t seen) const;
  void run_due(uint32_t number, uint64_t word);
  bool begin_callback(uint32_t number, uint64_t word, TimerField& field);
  [[nodiscard]] bool lost_users(const MapBinding& map, uint64_t now);
  void let_go(uint32_t number, uint64_t word);
  void look_after_records(uint64_t now);
  [[nodiscard]] uint32_t sweep_maps(std::vector<uint32_t>& maps);
  void end_timers_of(uint32_t map);

  void lock();
  void unlock() { locked_by_.store(nullptr, std::memory_order_release); }
  [[nodiscard]] bool locked_by_this_thread() const;

  Machine& machine_;
  RunEnvironment environment_;
  std::atomic<const void*> locked_by_{nullptr};  // null: nobody
  RestartGate gate_;
  // Guarded by the lock, and by the gate.
  TimerTable table_;
  uint32_t self_ = 0;  // the tag of the process that the table belongs to
  uint64_t sweep_at_ = kSweepSlack;
  uint64_t sleeping_until_ = 0;  // the thread's, 0 while it is awake
  bool looks_after_ = false;     // the thread has a next_sweep_

  std::atomic<uint64_t> running_{0};   // the word of the timer whose callback runs; written under the lock
  std::atomic<uint32_t> wake_ups_{0};  // futex of the sleeping thread
  std::atomic<bool> ending_{false};
  std::unique_ptr<std::thread> thread_;  // written under the lock
  std::unique_ptr<Runner> runner_;       // the thread's own
  std::unique_ptr<TaskWork> task_work_;  // the thread's own
  uint32_t users_map_ = 0;               // the thread's own: the map that was found to have users last, and when
  uint64_t users_seen_ = 0;
  uint64_t next_sweep_ = TimerTable::kNever;  // the thread's own; kNever: there was no timer at the last one
};

/// The lock, while it lives; what is taken out of the table under it is destroyed after it.
class Timers::Held {
 public:
  explicit Held(Timers& timers) : timers_(timers) {
    timers_.lock();
    timers_.gate_.close();
    const uint32_t self = timers_.machine_.self().value;
    if (timers_.self_ != self) [[unlikely]] {  // the first use, also in a forked child
      begin_anew(self);
    }
  }
  ~Held() { timers_.unlock(); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  void begin_anew(uint32_t self);

  std::unique_ptr<TimerTable> parents_;
  Timers& timers_;
};

}  // namespace skep
