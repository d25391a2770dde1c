// SPDX-License-Identifier: Apache-2.0
#include "threads.h"

#include <sched.h>

#include <barrier>
#include <ctime>
#include <thread>
#include <vector>

namespace skep::bench {

namespace {

cpu_set_t allowed_cpus() {
  static const cpu_set_t at_start = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    return set;
  }();
  return at_start;
}

}  // namespace

uint64_t now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

void pin_to_cpu(int index) {
  const cpu_set_t allowed = allowed_cpus();
  index %= CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || index-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
    return;
  }
}

double time_threads(int threads, uint64_t operations,
                    const std::function<void(int thread, uint64_t operations)>& loop) {
  std::barrier start(threads);
  std::vector<uint64_t> nanoseconds(static_cast<size_t>(threads));
  {
    std::vector<std::jthread> running;
    for (int thread = 0; thread < threads; ++thread) {
      running.emplace_back([&, thread] {
        pin_to_cpu(thread);
        loop(thread, operations / 16);
        start.arrive_and_wait();
        const uint64_t started = now();
        loop(thread, operations);
        nanoseconds[static_cast<size_t>(thread)] = now() - started;
      });
    }
  }
  double sum = 0;
  for (const uint64_t time : nanoseconds) sum += static_cast<double>(time);
  return sum / threads / static_cast<double>(operations);
}

}  // namespace skep::bench
