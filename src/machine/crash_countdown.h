// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

// Crash points at which a process gets a signal, for the sources that are compiled into a test, or for it. Comes before
// everything that holds a crash point.

namespace skep::testing {
inline int crash_countdown = 0;  // 0: never
inline int crash_signal = SIGKILL;
inline const std::atomic<uint32_t>* crash_word = nullptr;  // if set: counts only while it holds crash_value
inline uint32_t crash_value = 0;
inline void crash_point() {
  if (crash_countdown == 0 || (crash_word != nullptr && crash_word->load() != crash_value)) return;
  if (--crash_countdown == 0) kill(getpid(), crash_signal);
}
}  // namespace skep::testing
#define SKEP_CRASH_POINT() ::skep::testing::crash_point()
