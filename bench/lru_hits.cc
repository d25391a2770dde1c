// SPDX-License-Identifier: Apache-2.0
// How often a program that looks each key up, and inserts it where it is missing, finds it: skep and the kernel on the
// same traces, one CPU. Rows count misses of 1,000 lookups.
#include <cstdio>
#include <optional>

#include "lru_subjects.h"
#include "lru_traces.h"
#include "skep/abi.h"
#include "sources.h"
#include "threads.h"

namespace skep::bench {
namespace {

/// Measured once: a trace does not change.
template <class Make>
Suite::Measure misses(std::string what, std::shared_ptr<const Trace> trace, uint32_t size, Make make) {
  const auto known = std::make_shared<std::optional<double>>();
  return [=] {
    if (!known->has_value()) {
      pin_to_cpu(0);
      const auto subject = make();
      if (subject == nullptr) return std::vector<Figure>();
      const auto requests = static_cast<double>(trace->keys.size());
      *known = 1000 * (1 - static_cast<double>(subject->replay(trace->keys)) / requests);
    }
    return std::vector{Figure{what, size, 1, **known}};
  };
}

}  // namespace

void add_lru_hits(Suite& suite, const Plan& plan) {
  std::vector<Trace> traces = generated_traces();
  if (!plan.traces.empty()) {
    for (Trace& trace : recorded_traces(plan.traces)) traces.push_back(std::move(trace));
  }
  for (Trace& each : traces) {
    const auto trace = std::make_shared<const Trace>(std::move(each));
    for (const uint32_t flags : {0U, uint32_t{BPF_F_NO_COMMON_LRU}}) {
      const std::string what = std::string("LRU misses of 1000, ") + (flags != 0 ? "own lists, " : "") + trace->name;
      for (const uint32_t size : trace->sizes) {
        const auto length = static_cast<uint32_t>(trace->keys.size());
        suite.add("kernel", misses(what, trace, size, [=] { return load_kernel_lru(size, 0, flags, length); }));
        suite.add("skep", misses(what, trace, size,
                                 [=, instances = plan.instances] { return make_skep_lru(instances, size, 0, flags); }));
      }
      suite.add_target({what, Target::Kind::kNotMore, "kernel", 1});
    }
  }
}

}  // namespace skep::bench
