// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "prog/helpers.h"

namespace skep::helpers {
namespace {

uint64_t nanoseconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

/// Thread and process id of this thread, asked for once; a forked child asks again.
thread_local uint64_t thread_identity = 0;

uint64_t ask_identity() {
  [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, [] { thread_identity = 0; });
  thread_identity = static_cast<uint64_t>(getpid()) << 32 | static_cast<uint32_t>(syscall(SYS_gettid));
  return thread_identity;
}

/// xoshiro256++ (Blackman and Vigna, 2018), seeded by the operating system per thread. Good statistically, not secret,
/// like the kernel's prandom.
class Random {
 public:
  Random() {
    if (getrandom(state_.data(), sizeof state_, 0) != static_cast<ssize_t>(sizeof state_) || state_[0] == 0) {
      state_[0] = nanoseconds(CLOCK_MONOTONIC) | 1;
    }
  }
  uint32_t next() {
    const uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return static_cast<uint32_t>(result >> 32);
  }

 private:
  std::array<uint64_t, 4> state_{};
};

/// The kernel's tick rate, which is the resolution of its coarse clock.
uint64_t tick_rate() {
  timespec resolution{};
  clock_getres(CLOCK_MONOTONIC_COARSE, &resolution);
  return 1'000'000'000 / static_cast<uint64_t>(std::max(resolution.tv_nsec, 1L));
}

}  // namespace

uint64_t ktime_get_ns(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) { return nanoseconds(CLOCK_MONOTONIC); }
uint64_t ktime_get_boot_ns(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  return nanoseconds(CLOCK_BOOTTIME);
}
uint64_t ktime_get_coarse_ns(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  return nanoseconds(CLOCK_MONOTONIC_COARSE);
}
uint64_t ktime_get_tai_ns(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) { return nanoseconds(CLOCK_TAI); }

uint64_t jiffies64(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  static const uint64_t rate = tick_rate();
  const uint64_t at_boot = static_cast<uint32_t>(0 - 300 * rate);  // five minutes before 32 bits wrap
  return at_boot + nanoseconds(CLOCK_MONOTONIC_COARSE) / (1'000'000'000 / rate);
}

uint64_t get_prandom_u32(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  thread_local Random random;
  return random.next();
}

uint64_t get_smp_processor_id(Run& run, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) { return run.lease().cpu(); }

uint64_t get_numa_node_id(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  unsigned node = 0;
  return getcpu(nullptr, &node) == 0 ? node : 0;
}

uint64_t get_current_pid_tgid(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  return thread_identity != 0 ? thread_identity : ask_identity();
}

uint64_t get_current_uid_gid(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  return uint64_t{getgid()} << 32 | getuid();
}

uint64_t get_current_comm(Run&, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  char name[16] = {};
  prctl(PR_GET_NAME, name);
  auto* out = memory<char>(a);
  const size_t copied = std::min<size_t>(b, sizeof name);
  std::memset(out, 0, b);
  std::memcpy(out, name, copied);
  out[b - 1] = 0;
  return 0;
}

}  // namespace skep::helpers
