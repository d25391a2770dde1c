// SPDX-License-Identifier: Apache-2.0
// The thread that waits for timers and runs their callbacks.
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <system_error>

#include "machine/lease.h"
#include "prog/clock.h"
#include "prog/program_references.h"
#include "prog/timers.h"

namespace skep {
namespace {

constexpr uint64_t kUsersBelieved = 1'000'000;   // ns for which a map that had users is not asked about again
constexpr uint64_t kOthersCallback = 1'000'000;  // ns until a timer is looked at again that another process runs
constexpr uint32_t kMostKeySize = 512;           // what a hash map allows

}  // namespace

bool Timers::start_thread() {
  // The application's signals are for its own threads, except for those that an instruction of the thread raises.
  sigset_t others, before;
  ::sigfillset(&others);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) ::sigdelset(&others, own);
  ::pthread_sigmask(SIG_SETMASK, &others, &before);
  try {
    thread_ = std::make_unique<std::thread>([this] { work(); });
  } catch (const std::system_error&) {  // no more threads for this process
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread_ != nullptr;
}

void Timers::wake() {
  wake_ups_.fetch_add(1, std::memory_order_seq_cst);
  ::syscall(SYS_futex, &wake_ups_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void Timers::sleep_until(uint64_t due, uint32_t seen) const {
  timespec until{};
  until.tv_sec = static_cast<time_t>(due / 1'000'000'000);
  until.tv_nsec = static_cast<long>(due % 1'000'000'000);
  // Absolute on CLOCK_MONOTONIC. A wake-up between the look at the table and this call has changed the word.
  ::syscall(SYS_futex, &wake_ups_, FUTEX_WAIT_BITSET_PRIVATE, seen, due == TimerTable::kNever ? nullptr : &until,
            nullptr, FUTEX_BITSET_MATCH_ANY);
}

void Timers::work() {
  ::prctl(PR_SET_NAME, "skep-timers");
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  runner_ = std::make_unique<Runner>();
  task_work_ = std::make_unique<TaskWork>();
  environment_.task_work = task_work_.get();
  while (!ending_.load()) {
    const uint32_t seen = wake_ups_.load(std::memory_order_seq_cst);
    std::optional<uint32_t> number;
    uint64_t word = 0;
    uint64_t look = 0;
    const uint64_t now = TimerClock::now();
    if (now >= next_sweep_) look_after_records(now);
    {
      const Held held(*this);
      number = table_.pop_due(now);
      if (number) word = table_.record(*number).word;
      if (next_sweep_ == TimerTable::kNever && table_.used() != 0) next_sweep_ = now + kSweepInterval;
      looks_after_ = next_sweep_ != TimerTable::kNever;
      look = std::min(table_.next_look(), next_sweep_);
      sleeping_until_ = number ? 0 : look;
    }
    if (number) run_due(*number, word);
    if (number || !task_work_->empty()) {
      task_work_->run_round(*runner_, machine_, environment_);
      machine_.run_deferred();  // what the callbacks left
    } else if (!ending_.load()) {
      sleep_until(look, seen);
    }
  }
}

bool Timers::lost_users(const MapBinding& map, uint64_t now) {
  if (users_map_ == map.id && now - users_seen_ < kUsersBelieved) return false;
  if (!has_users(map)) return true;
  users_map_ = map.id;
  users_seen_ = now;
  return false;
}

/// Lets the timers go whose values or whose maps' users have gone.
void Timers::look_after_records(uint64_t now) {
  std::vector<uint32_t> maps;
  next_sweep_ = sweep_maps(maps) == 0 ? TimerTable::kNever : now + kSweepInterval;
  for (const uint32_t map : maps) {
    if (environment_.references != nullptr && !environment_.references->has_users(map)) end_timers_of(map);
  }
}

/// Lets the records go whose fields do not name them any more; how many are left, and of which maps.
uint32_t Timers::sweep_maps(std::vector<uint32_t>& maps) {
  for (uint32_t begin = 0;; begin += kSweepAtOnce) {
    std::vector<TimerTable::Record> kept;
    std::array<uint32_t, kSweepAtOnce> seen;
    uint32_t count = 0;
    uint32_t used = 0;
    {
      const Held held(*this);
      if (begin >= table_.size()) return table_.used();
      sweep_part(begin, kept);
      used = std::min(table_.size() - begin, kSweepAtOnce);
      for (uint32_t i = 0; i < used; ++i) {
        const TimerTable::Record& record = table_.record(begin + i);
        if (record.word != 0 && (count == 0 || seen[count - 1] != record.map->id)) seen[count++] = record.map->id;
      }
    }
    for (uint32_t i = 0; i < count; ++i) {
      if (std::ranges::find(maps, seen[i]) == maps.end()) maps.push_back(seen[i]);
    }
  }
}

void Timers::end_timers_of(uint32_t map) {
  for (uint32_t begin = 0;; begin += kSweepAtOnce) {
    std::vector<TimerTable::Record> kept;
    const Held held(*this);
    if (begin >= table_.size()) return;
    for (uint32_t number = begin; number < std::min(table_.size(), begin + kSweepAtOnce); ++number) {
      const TimerTable::Record& record = table_.record(number);
      if (record.word == 0 || record.map->id != map) continue;
      record.field->change(record.word, 0);
      kept.push_back(table_.give_back(number));
    }
  }
}

void Timers::let_go(uint32_t number, uint64_t word) {
  TimerTable::Record kept;
  const Held held(*this);
  if (table_.record(number).word == word) kept = table_.give_back(number);
}

/// Disarms the timer; true: its callback is to run now.
bool Timers::begin_callback(uint32_t number, uint64_t word, TimerField& field) {
  TimerTable::Record gone;
  const Held held(*this);
  TimerTable::Record& record = table_.record(number);
  const uint64_t now = TimerClock::now();
  // Moved or cancelled while the CPU was waited for.
  if (record.word != word || record.due > now) return false;
  running_.store(word, std::memory_order_seq_cst);  // before others see in the field that somebody runs it
  switch (field.begin(word)) {
    case TimerField::Begun::kYes:
      TimerTable::disarm(record);
      return true;
    case TimerField::Begun::kGone:
      gone = table_.give_back(number);
      break;
    case TimerField::Begun::kBusy:
      if (const ProcessTag runner = field.runner(); !machine_.alive(runner)) field.end(runner);
      (void)table_.arm(record, number, now + kOthersCallback);
      break;
  }
  running_.store(0, std::memory_order_release);
  return false;
}

void Timers::run_due(uint32_t number, uint64_t word) {
  TimerTable::Record timer;  // keeps what the callback needs, whatever happens to the timer meanwhile
  {
    const Held held(*this);
    if (table_.record(number).word != word) return;
    timer = table_.record(number);
  }
  if (timer.field->word() != word) return let_go(number, word);
  if (lost_users(*timer.map, TimerClock::now())) {
    timer.field->change(word, 0);
    return let_go(number, word);
  }
  std::array<std::byte, kMostKeySize> key;
  if (timer.map->key_size > key.size() || !timer.map->map->copy_key(timer.value, key.data())) {
    return let_go(number, word);
  }
  std::optional<Lease> lease;
  if (timer.pinned_cpu != UINT32_MAX) {
    lease.emplace(machine_, Lease::Cpu{timer.pinned_cpu});
  } else {
    lease.emplace(machine_, Lease::AnyCpu{});
  }
  timer.map->map->settle_dead(*lease, timer.value);  // one who died may have been deleting it
  if (!begin_callback(number, word, *timer.field)) return;
  t_running_timer = timer.field;
  // A callback that breaks a rule stops; there is nobody to tell.
  (void)runner_->call_back(*timer.code, timer.function, *timer.map, key.data(), timer.value, *lease, environment_);
  t_running_timer = nullptr;
  timer.field->end(machine_.self());
  running_.store(0, std::memory_order_release);  // pairs with the acquires of those who cancel
}

}  // namespace skep
