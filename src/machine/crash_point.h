// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <type_traits>

/// Nothing, except for the tests that compile the maps with crash_countdown.h or their own definition: there a process
/// can be made to die at its n-th crash point, so that every state between two stores of an operation is repaired once
/// under the test's eyes.
#ifdef SKEP_CRASH_POINT
namespace skep {
constexpr bool kCrashPoints = true;
}  // namespace skep
#else
#define SKEP_CRASH_POINT() static_cast<void>(0)
namespace skep {
constexpr bool kCrashPoints = false;
}  // namespace skep
#endif

namespace skep {

/// A store that recovery reasons about: program order between such stores is what a dead process leaves behind.
/// Release, so that neither compiler nor CPU moves earlier stores past it.
template <class T>
inline void commit(std::atomic<T>& field, std::type_identity_t<T> value) {
  field.store(value, std::memory_order_release);
  SKEP_CRASH_POINT();
}

/// A load of a field that only the holder of a lock, this thread, changes, or whose value is only a hint.
template <class T>
inline T load(const std::atomic<T>& field) {
  return field.load(std::memory_order_relaxed);
}

}  // namespace skep
