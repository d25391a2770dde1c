// SPDX-License-Identifier: Apache-2.0
#include "prog/timers.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "machine/lease.h"
#include "machine/quiet_mutex.h"
#include "prog/clock.h"
#include "prog/program_references.h"

namespace skep {

thread_local const TimerField* t_running_timer = nullptr;

namespace {

/// What tells the calling thread from all others, in a forked child too.
const void* this_thread() { return &t_running_timer; }

}  // namespace

/// Keeps the locks of all tables of this process across fork(2), so that the child finds them whole.
class TimerForks {
 public:
  static TimerForks& get() {
    static auto* const forks = new TimerForks;
    return *forks;
  }
  void add(Timers* timers) {
    const std::scoped_lock lock(mutex_);
    all_.push_back(timers);
  }
  void remove(Timers* timers) {
    const std::scoped_lock lock(mutex_);
    std::erase(all_, timers);
  }

 private:
  TimerForks() {
    ::pthread_atfork([] { get().before(); }, [] { get().after(false); }, [] { get().after(true); });
  }
  void before() {
    mutex_.lock();
    for (Timers* timers : all_) {
      if (timers->locked_by_this_thread()) {
        interrupted_ = timers;  // fork(2) in a signal handler: the thread goes on in the child too, and unlocks there
      } else {
        timers->lock();
      }
    }
  }
  void after(bool child) {
    for (Timers* timers : all_) {
      if (child) {  // the thread stayed behind, with what it was doing
        (void)timers->thread_.release();
        (void)timers->runner_.release();
        (void)timers->task_work_.release();
        timers->running_.store(0);
        timers->gate_.begin_anew();
        timers->sleeping_until_ = 0;
        timers->looks_after_ = false;
        t_running_timer = nullptr;
      }
      if (timers != interrupted_) timers->unlock();
    }
    interrupted_ = nullptr;
    mutex_.unlock();
  }

  QuietMutex mutex_;
  std::vector<Timers*> all_;
  const Timers* interrupted_ = nullptr;
};

/// The table is another process's: this one is its forked child, or it is the first use.
void Timers::Held::begin_anew(uint32_t self) {
  parents_ = std::make_unique<TimerTable>(std::exchange(timers_.table_, {}));
  timers_.self_ = self;
  timers_.sweep_at_ = kSweepSlack;
}

void Timers::watch_forks() { TimerForks::get(); }

Timers::Timers(Machine& machine, const RunEnvironment& environment)
    : machine_(machine), environment_(environment), gate_(machine.cpus()) {
  environment_.timers = this;
  TimerForks::get().add(this);
}

Timers::~Timers() {
  TimerForks::get().remove(this);
  if (thread_ == nullptr) return;
  ending_.store(true);
  wake();
  thread_->join();
}

void Timers::lock() {
  for (const void* nobody = nullptr;
       !locked_by_.compare_exchange_strong(nobody, this_thread(), std::memory_order_acquire); nobody = nullptr) {
    while (locked_by_.load(std::memory_order_relaxed) != nullptr) ::sched_yield();
  }
}

bool Timers::locked_by_this_thread() const { return locked_by_.load(std::memory_order_relaxed) == this_thread(); }

uint32_t Timers::count() {
  const Held held(*this);
  return table_.used();
}

bool Timers::looks_after_records() {
  const Held held(*this);
  return looks_after_;
}

bool Timers::has_users(const MapBinding& map) const {
  return environment_.references == nullptr || environment_.references->has_users(map.id);
}

bool Timers::is_dead(uint64_t word) const {
  const ProcessTag owner = TimerField::owner_of(word);
  return owner != ProcessTag{} && owner != machine_.self() && !machine_.alive(owner);
}

int64_t Timers::init(const TimerPlace& place, uint64_t flags) {
  const auto clock = flags <= UINT32_MAX ? TimerClock::of(static_cast<uint32_t>(flags)) : std::nullopt;
  return clock ? initialise(place, clock->code()) : -EINVAL;
}

int64_t Timers::init_work(const TimerPlace& place, uint64_t flags) {
  return flags == 0 ? initialise(place, TimerField::kWork) : -EINVAL;
}

int64_t Timers::initialise(const TimerPlace& place, uint32_t clock) {
  const uint64_t word = place.field->word();
  if (word != 0 && !is_dead(word)) return -EBUSY;
  if (!has_users(*place.map)) return -EPERM;
  if (!place.field->change(word, TimerField::unowned(clock))) return -EBUSY;
  (void)place.field->claim(TimerField::owner_of(word));  // a dead one's
  return 0;
}

int64_t Timers::set_callback(const TimerPlace& place, const DecodedCode& code, uint32_t function) {
  uint64_t word = place.field->word();
  if (word == 0) return -EINVAL;
  if (!has_users(*place.map)) return -EPERM;
  TimerTable::Record made;
  made.field = place.field;
  made.value = place.value;
  made.code = code.shared_from_this();
  made.function = function;
  made.map = place.map;
  if (place.map < code.maps.data() || place.map >= code.maps.data() + code.maps.size()) {
    made.inner = std::make_shared<MapBinding>(*place.map);
    made.map = made.inner.get();
  }
  std::vector<TimerTable::Record> kept;
  const Held held(*this);
  if (thread_ == nullptr && !start_thread()) return -ENOMEM;
  for (; word != 0; word = place.field->word()) {
    if (TimerTable::Record* mine = table_.find(word); mine != nullptr && TimerField::owner_of(word).value == self_) {
      std::swap(mine->code, made.code);
      std::swap(mine->inner, made.inner);
      mine->map = made.map;
      mine->function = function;
      return 0;
    }
    const auto number = take_record(kept);
    if (!number) return -ENOMEM;
    TimerTable::Record& record = table_.record(*number);
    const uint64_t own = TimerField::make({self_}, TimerField::clock_of(word), record.turn, *number);
    if (!place.field->change(word, own)) {
      (void)table_.give_back(*number);  // empty
      continue;
    }
    (void)place.field->claim(TimerField::owner_of(word));
    (void)place.field->claim({self_});  // from before, where one who moved it died before it came to that
    made.turn = record.turn;
    made.queued = record.queued;
    made.word = own;
    record = std::move(made);
    if (!looks_after_) wake();
    return 0;
  }
  return -EINVAL;
}

int64_t Timers::start(const TimerPlace& place, uint64_t nanoseconds, uint64_t flags, const Lease& lease) {
  const uint64_t word = place.field->word();
  if (flags == 0 && push_back(word, nanoseconds, lease)) return 0;
  if ((flags & ~uint64_t{BPF_F_TIMER_ABS | BPF_F_TIMER_CPU_PIN}) != 0) return -EINVAL;
  if (TimerField::owner_of(word) != lease.process() || word == 0) return -EINVAL;
  const TimerClock clock = TimerClock::decode(TimerField::clock_of(word));
  const uint64_t due =
      (flags & BPF_F_TIMER_ABS) != 0 ? clock.to_monotonic(nanoseconds) : saturated_sum(TimerClock::now(), nanoseconds);
  return arm(place, word, due, (flags & BPF_F_TIMER_CPU_PIN) != 0 ? lease.cpu() : UINT32_MAX);
}

int64_t Timers::start_work(const TimerPlace& place, uint64_t flags, const Lease& lease) {
  const uint64_t word = place.field->word();
  if (flags != 0 || word == 0 || TimerField::owner_of(word) != lease.process()) return -EINVAL;
  return arm(place, word, TimerClock::now(), UINT32_MAX);
}

/// Arms a timer of this process, which `word` names, for a later time than it is queued for, if that is all there is to
/// do. False: it is not, or the gate is closed.
bool Timers::push_back(uint64_t word, uint64_t nanoseconds, const Lease& lease) {
  RestartGate::Lane* const lane = gate_.lane(lease);
  if (lane == nullptr) return false;
  const uint64_t due = saturated_sum(lane->clock.now(), nanoseconds);
  return gate_.pass(*lane, [&] {
    TimerTable::Record* const record = table_.find(word);  // a word of another process is none of the table's
    return record != nullptr && word != 0 && TimerTable::push_back(*record, due);
  });
}

int64_t Timers::arm(const TimerPlace& place, uint64_t word, uint64_t due, uint32_t pinned_cpu) {
  bool earlier = false;
  {
    const Held held(*this);
    TimerTable::Record* record = table_.find(word);
    if (record == nullptr) return -EINVAL;
    if (TimerField::clock_of(word) == TimerField::kWork && record->due != TimerTable::kNever) return 0;
    record->pinned_cpu = pinned_cpu;
    if (record->due != TimerTable::kNever && pinned_cpu == UINT32_MAX) {
      gate_.earn();
    } else {
      gate_.lose();
    }
    if (record->due == TimerTable::kNever) {
      const TimerField::Armed armed = place.field->arm(word);
      if (armed == TimerField::Armed::kMoved) return -EINVAL;
      if (armed == TimerField::Armed::kClaimed) return 0;
    }
    earlier = table_.arm(*record, TimerField::record_of(word), due) && due < sleeping_until_;
  }
  if (earlier) wake();
  return 0;
}

int64_t Timers::cancel(const TimerPlace& place) {
  for (;;) {
    const uint64_t word = place.field->word();
    if (word == 0) return -EINVAL;
    if (t_running_timer != nullptr && must_wait(*place.field)) return -EDEADLK;
    const ProcessTag owner = TimerField::owner_of(word);
    if (owner == ProcessTag{}) return wait_for_callback(*place.field);
    if (owner != machine_.self()) {
      if (const int64_t done = cancel_foreign(place, word); done != -EAGAIN) return done;
      continue;
    }
    bool was_armed = false;
    {
      TimerTable::Record kept;
      const Held held(*this);
      if (!place.field->change(word, TimerField::unowned(TimerField::clock_of(word)))) continue;
      (void)place.field->claim(owner);
      if (TimerTable::Record* record = table_.find(word)) {
        was_armed = record->due != TimerTable::kNever;
        kept = table_.give_back(TimerField::record_of(word));
      }
    }
    (void)wait_for_callback(*place.field);
    while (running_.load(std::memory_order_acquire) == word) ::sched_yield();  // of a value that has gone meanwhile
    return was_armed ? 1 : 0;
  }
}

int64_t Timers::cancel_foreign(const TimerPlace& place, uint64_t word) {
  const ProcessTag owner = TimerField::owner_of(word);
  const bool alive = machine_.alive(owner);
  const uint64_t idle = TimerField::unowned(TimerField::clock_of(word));
  if (!place.field->change(word, idle)) return -EAGAIN;
  const bool was_armed = place.field->claim(owner) && alive;
  const int64_t waited = wait_for_callback(*place.field);
  if (was_armed) return 1;
  if (waited != 0) (void)place.field->change(idle, word);  // it has just begun
  return waited;
}

/// In a callback: whether it would have to wait for itself, or for one of another process, which may wait for it.
bool Timers::must_wait(const TimerField& field) const {
  const ProcessTag runner = field.runner();
  if (runner == machine_.self()) return t_running_timer == &field;
  return runner != ProcessTag{} && machine_.alive(runner);
}

/// Waits for the end of the callback of this timer that runs, in whatever process. 0; EDEADLK: see must_wait().
int64_t Timers::wait_for_callback(TimerField& field) const {
  const ProcessTag runner = field.runner();
  if (runner == ProcessTag{}) return 0;
  if (t_running_timer != nullptr) return must_wait(field) ? -EDEADLK : 0;
  const bool own = runner == machine_.self();
  for (uint32_t round = 1; field.runner() == runner; ++round) {
    if (own && running_.load(std::memory_order_acquire) == 0) break;  // nobody who runs one said so
    if (round % 1024 == 0 && !machine_.alive(runner)) field.end(runner);
    ::sched_yield();
  }
  return 0;
}

std::optional<uint32_t> Timers::take_record(std::vector<TimerTable::Record>& kept) {
  if (table_.used() >= sweep_at_ || table_.used() == TimerTable::kMost) sweep(kept);
  return table_.take();
}

/// Lets the records go whose fields do not name them any more.
void Timers::sweep(std::vector<TimerTable::Record>& kept) {
  for (uint32_t begin = 0; begin < table_.size(); begin += kSweepAtOnce) sweep_part(begin, kept);
  sweep_at_ = uint64_t{table_.used()} * 2 + kSweepSlack;
}

void Timers::sweep_part(uint32_t begin, std::vector<TimerTable::Record>& kept) {
  for (uint32_t number = begin; number < std::min(table_.size(), begin + kSweepAtOnce); ++number) {
    const TimerTable::Record& record = table_.record(number);
    if (record.word != 0 && record.field->word() != record.word) kept.push_back(table_.give_back(number));
  }
}

}  // namespace skep
