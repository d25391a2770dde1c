// SPDX-License-Identifier: Apache-2.0
#include <cerrno>

#include "prog/helpers.h"
#include "prog/timers.h"

namespace skep::helpers {
namespace {

template <class Operation>
uint64_t on_timer(Run& run, uint64_t address, const Operation& operation) {
  Timers* const timers = run.environment().timers;
  if (timers == nullptr) return error_value(EOPNOTSUPP);
  return static_cast<uint64_t>(operation(*timers, run.timer_at(address)));
}

}  // namespace

uint64_t timer_init(Run& run, uint64_t a, uint64_t, uint64_t c, uint64_t, uint64_t) {
  return on_timer(run, a, [&](Timers& timers, const TimerPlace& place) { return timers.init(place, c); });
}

uint64_t timer_set_callback(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return on_timer(run, a, [&](Timers& timers, const TimerPlace& place) {
    return timers.set_callback(place, run.code(), memory<const FunctionEntry>(b)->index);
  });
}

uint64_t timer_start(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  return on_timer(run, a,
                  [&](Timers& timers, const TimerPlace& place) { return timers.start(place, b, c, run.lease()); });
}

uint64_t timer_cancel(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) {
  return on_timer(run, a, [](Timers& timers, const TimerPlace& place) { return timers.cancel(place); });
}

uint64_t wq_init(Run& run, uint64_t a, uint64_t, uint64_t c, uint64_t, uint64_t) {
  return int_value(
      on_timer(run, a, [&](Timers& timers, const TimerPlace& place) { return timers.init_work(place, c); }));
}

uint64_t wq_set_callback(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  return int_value(on_timer(run, a, [&](Timers& timers, const TimerPlace& place) -> int64_t {
    if (c != 0) return -EINVAL;
    return timers.set_callback(place, run.code(), memory<const FunctionEntry>(b)->index);
  }));
}

uint64_t wq_start(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return int_value(on_timer(
      run, a, [&](Timers& timers, const TimerPlace& place) { return timers.start_work(place, b, run.lease()); }));
}

}  // namespace skep::helpers
