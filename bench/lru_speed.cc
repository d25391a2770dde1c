// SPDX-License-Identifier: Apache-2.0
// LRU_HASH as a program's helpers use it: skep's called from C++ in a loop under one lease, the kernel's from its
// compiled programs; both net of the empty loop.
#include <iterator>

#include "lru_subjects.h"
#include "sizes.h"
#include "sources.h"
#include "threads.h"

namespace skep::bench {
namespace {

constexpr struct {
  const char* what;
  LruSubject::Loop loop;
} kLoops[] = {{"LRU_HASH lookup, in a program", LruSubject::Loop::kLookup},
              {"LRU_HASH update, in a program", LruSubject::Loop::kUpdate},
              {"LRU_HASH evicting insert, in a program", LruSubject::Loop::kInsert}};

Suite::Measure measure(std::shared_ptr<LruSubject> subject, size_t which, uint64_t size, int threads,
                       uint64_t operations) {
  return [=] {
    const auto time = [&](LruSubject::Loop loop) {
      return time_threads(threads, operations, [&](int thread, uint64_t count) { subject->run(loop, thread, count); });
    };
    const double empty = time(LruSubject::Loop::kEmpty);
    return std::vector{Figure{kLoops[which].what, size, threads, time(kLoops[which].loop) - empty}};
  };
}

}  // namespace

void add_lru_speed(Suite& suite, const Plan& plan) {
  for (const uint64_t size : kSizes) {
    const uint64_t entries = size - kSpare;
    const std::shared_ptr<LruSubject> kernel = load_kernel_lru(static_cast<uint32_t>(size), entries, 0, 1);
    const std::shared_ptr<LruSubject> skep = make_skep_lru(plan.instances, static_cast<uint32_t>(size), entries, 0);
    for (size_t which = 0; which < std::size(kLoops); ++which) {
      for (const int threads : {1, 2}) {
        if (kernel) suite.add("kernel", measure(kernel, which, size, threads, plan.operations));
        suite.add("skep", measure(skep, which, size, threads, plan.operations));
      }
    }
  }
  suite.add_target({kLoops[1].what, Target::Kind::kTimesFaster, "kernel", 4});
  suite.add_target({kLoops[2].what, Target::Kind::kTimesFaster, "kernel", 4});
}

}  // namespace skep::bench
