// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace skep::bench {

/// Nanoseconds that the calling thread has run: other load on the machine counts as little as it can.
uint64_t now();

/// Binds the calling thread to the `index`-th CPU that the process may use.
void pin_to_cpu(int index);

/// Runs `loop(thread, operations)` in that many threads at once, each on a CPU of its own, after a short warm-up, and
/// returns the mean time of one operation in one thread, in nanoseconds.
double time_threads(int threads, uint64_t operations, const std::function<void(int thread, uint64_t operations)>& loop);

/// Keeps the compiler from dropping the computation of `value`.
inline void keep(uint64_t value) { asm volatile("" : : "r"(value) : "memory"); }

}  // namespace skep::bench
