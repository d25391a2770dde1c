// SPDX-License-Identifier: Apache-2.0
// Copying lookups in one process: skep's C++ face against peers, and many keys at once against the machine's limit.
#include <skep/hash_map.hpp>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "loop_parameters.h"
#include "peers.h"
#include "prefetch_floor.h"
#include "sizes.h"
#include "sources.h"
#include "threads.h"

namespace skep::bench {

namespace {

using Table = HashMap<uint64_t, uint64_t>;

constexpr char kLookup[] = "lookup, C++";
constexpr char kLookupMany[] = "lookup of 16 keys at once, C++, per key";

class SkepTable {
 public:
  SkepTable(const Instance& instance, uint64_t entries) : entries_(entries), table_(make(instance, entries)) {
    for (uint64_t i = 0; i < entries; ++i) {
      if (!table_.insert_or_assign(BENCH_KEY(i), i)) std::abort();
    }
  }
  void look_up(uint64_t seed, uint64_t operations) const {
    uint64_t state = seed;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < operations; ++i) {
      const uint64_t random = BENCH_NEXT(state);
      const auto value = table_.get(BENCH_KEY(BENCH_INDEX(random, entries_)));
      if (!value) std::abort();
      sum += *value;
    }
    keep(sum);
  }
  [[nodiscard]] double time_many(uint64_t seed, uint64_t operations) const {
    constexpr uint32_t kGroup = PrefetchFloor::kGroup;
    uint64_t state = seed;
    uint64_t sum = 0;
    const uint64_t started = now();
    for (uint64_t i = 0; i < operations; i += kGroup) {
      uint64_t keys[kGroup];
      uint64_t values[kGroup];
      uint8_t found[kGroup];
      for (uint64_t& key : keys) {
        const uint64_t random = BENCH_NEXT(state);
        key = BENCH_KEY(BENCH_INDEX(random, entries_));
      }
      if (table_.get_many(keys, values, found) != kGroup) std::abort();
      for (const uint64_t value : values) sum += value;
    }
    keep(sum);
    return static_cast<double>(now() - started) / static_cast<double>(operations);
  }

 private:
  static Table make(const Instance& instance, uint64_t entries) {
    auto table = Table::create(instance, {.name = "bench", .max_entries = static_cast<uint32_t>(entries)});
    if (!table) {
      std::fprintf(stderr, "%s\n", table.error().message.c_str());
      std::exit(1);
    }
    return std::move(*table);
  }
  uint64_t entries_;
  Table table_;
};

template <class Subject>
Suite::Measure lookups(std::shared_ptr<Subject> subject, uint64_t entries, int threads, uint64_t operations) {
  return [=] {
    const double time = time_threads(threads, operations, [&](int thread, uint64_t count) {
      subject->look_up(static_cast<uint64_t>(thread) + 1, count);
    });
    return std::vector{Figure{kLookup, entries, threads, time}};
  };
}

}  // namespace

void add_lookups(Suite& suite, const Plan& plan) {
  const auto instance = Instance::open(plan.instances + "/lookups");
  if (!instance) {
    std::fprintf(stderr, "%s\n", instance.error().message.c_str());
    std::exit(1);
  }
  for (const uint64_t entries : kSizes) {
    const auto skep = std::make_shared<SkepTable>(*instance, entries);
    const std::pair<const char*, std::shared_ptr<Peer>> peers[] = {{"TBB", make_tbb_peer(entries)},
                                                                   {"liburcu", make_liburcu_peer(entries)},
                                                                   {"std+mutex", make_std_peer(entries)}};
    for (const int threads : {1, 2}) {
      suite.add("skep", lookups(skep, entries, threads, plan.operations));
      for (const auto& [name, peer] : peers) suite.add(name, lookups(peer, entries, threads, plan.operations));
    }
    suite.add("skep", [=, operations = plan.operations] {
      pin_to_cpu(0);
      return std::vector{Figure{kLookupMany, entries, 1, skep->time_many(1, operations)}};
    });
    suite.add("floor", [entries, operations = plan.operations, floor = std::make_shared<PrefetchFloor>(entries)] {
      pin_to_cpu(0);
      return std::vector{Figure{kLookupMany, entries, 1, floor->time(1, operations)}};
    });
  }
  suite.add_target({kLookup, Target::Kind::kShareOfTime, "TBB", 0.5, 0, 1 << 16});
  suite.add_target({kLookup, Target::Kind::kScaling, "skep", 1.9});
  suite.add_target({kLookupMany, Target::Kind::kShareOfTime, "floor", 1.5, 1 << 20});
}

}  // namespace skep::bench
