// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>
#include <time.h>

#include <cstdint>
#include <optional>

namespace skep {

[[nodiscard]] constexpr uint64_t saturated_sum(uint64_t a, uint64_t b) {
  constexpr auto kMost = static_cast<uint64_t>(INT64_MAX);
  return a >= kMost || b >= kMost - a ? kMost : a + b;
}

/// A clock that a bpf_timer can be made with. Times in ns.
class TimerClock {
 public:
  /// By the kernel's number: CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME; none for any other.
  static std::optional<TimerClock> of(uint32_t clock) {
    for (uint32_t code = 0; code < 3; ++code) {
      if (static_cast<uint32_t>(kClocks[code]) == clock) return TimerClock(code);
    }
    return std::nullopt;
  }
  /// By the two bits that a TimerField keeps; bits that nobody stored mean CLOCK_MONOTONIC.
  static TimerClock decode(uint32_t code) { return TimerClock(code < 3 ? code : 1); }
  [[nodiscard]] uint32_t code() const { return code_; }

  static uint64_t now(clockid_t clock = CLOCK_MONOTONIC) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
  }
  /// When CLOCK_MONOTONIC will show what this clock shows at `time`, as things are now.
  [[nodiscard]] uint64_t to_monotonic(uint64_t time) const {
    if (kClocks[code_] == CLOCK_MONOTONIC) return saturated_sum(time, 0);
    const uint64_t here = now(kClocks[code_]);
    return time <= here ? 0 : saturated_sum(now(), time - here);
  }

 private:
  static constexpr clockid_t kClocks[3] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
  explicit TimerClock(uint32_t code) : code_(code) {}
  uint32_t code_;
};

}  // namespace skep
