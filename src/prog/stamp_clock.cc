// SPDX-License-Identifier: Apache-2.0
#include "prog/stamp_clock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

namespace skep {

#if defined(__x86_64__)

namespace {

constexpr uint64_t kServes = 1'000'000;        // ns
constexpr uint64_t kTooLongAgo = 100'000'000;  // ns
constexpr uint64_t kTooSlow = 200;             // ns that reading both may take
constexpr uint64_t kMargin = 100;              // ns: processors read the counter ahead of what comes before

/// Whether the kernel finds the counter good enough for its own clock: at one rate, and the same on all processors.
bool counter_is_trusted() {
  static const bool trusted = [] {
    const int fd = ::open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    char name[8] = {};
    const ssize_t length = ::read(fd, name, sizeof name);
    ::close(fd);
    return length == 4 && std::memcmp(name, "tsc\n", 4) == 0;
  }();
  return trusted;
}

}  // namespace

uint64_t StampClock::begin_anew() {
  const uint64_t stamp = __rdtsc();
  const uint64_t time = TimerClock::now();  // reads the counter in its turn
  const uint64_t after = __rdtsc();
  const uint64_t before_stamp = stamp_, before_time = time_ - kMargin, before_rate = pure_rate_;
  const uint64_t passed = time - before_time;
  if (before_stamp != 0 && passed < kServes) return time;
  stamp_ = stamp;
  time_ = time + kMargin;
  serves_ = 0;
  pure_rate_ = 0;
  if (before_stamp == 0 || passed > kTooLongAgo || !counter_is_trusted()) return time;
  const uint64_t rate = (passed << kRateBits) / (stamp - before_stamp);
  if (rate == 0 || after - stamp > (kTooSlow << kRateBits) / rate) return time;
  pure_rate_ = rate;
  const uint64_t apart = rate > before_rate ? rate - before_rate : before_rate - rate;
  if (apart > rate / 4096) return time;
  rate_ = rate + rate / 1024;
  serves_ = (kServes << kRateBits) / rate_;
  return time;
}

#else

uint64_t StampClock::begin_anew() { return TimerClock::now(); }

#endif

}  // namespace skep
