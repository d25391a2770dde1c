// SPDX-License-Identifier: Apache-2.0
// Map operations as a program's helpers do them: skep's called from C++ in a loop under one lease, the kernel's from
// its compiled programs; both net of the empty loop.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "kernel_loops.h"
#include "loop_parameters.h"
#include "machine/lease.h"
#include "maps/map.h"
#include "object/instance.h"
#include "sizes.h"
#include "sources.h"
#include "threads.h"

namespace skep::bench {

namespace {

using Loop = KernelLoops::Loop;

[[noreturn]] void give_up(const char* what, Errno error) {
  std::fprintf(stderr, "%s: error %d %s\n", what, to_int(error), last_error_sentence());
  std::exit(1);
}

/// A map of skep's own, kept alive by the mapping alone.
std::unique_ptr<Map> make_map(Instance& instance, uint32_t type, uint32_t key_size, uint64_t size) {
  Result<FileDescriptor> file = instance.make_file(ObjectKind::kMap);
  if (!file) give_up("a map file", file.error());
  MapCreation creation;
  creation.spec = MapSpec{.type = type,
                          .key_size = key_size,
                          .value_size = 8,
                          .max_entries = static_cast<uint32_t>(size),
                          .flags = 0,
                          .numa_node = 0,
                          .extra = 0,
                          .fields = {}};
  Result<std::unique_ptr<Map>> map = create_map(file->get(), creation, instance.machine());
  if (!map) give_up("a map", map.error());
  return std::move(*map);
}

/// skep's maps of one size, filled but for kSpare entries.
class SkepLoops {
 public:
  SkepLoops(std::shared_ptr<Instance> instance, uint64_t size)
      : instance_(std::move(instance)),
        machine_(instance_->machine()),
        entries_(size - kSpare),
        hash_(make_map(*instance_, kHash, 8, size)),
        percpu_hash_(make_map(*instance_, kPerCpuHash, 8, size)),
        array_(make_map(*instance_, kArray, 4, size)),
        percpu_array_(make_map(*instance_, kPerCpuArray, 4, size)) {
    const Lease lease(machine_, Lease::Cpu{0});
    for (uint64_t i = 0; i < entries_; ++i) {
      const uint64_t key = BENCH_KEY(i);
      const uint64_t value = 1;
      for (Map* map : {hash_.get(), percpu_hash_.get()}) {
        if (const Status done = map->update_from_program(lease, &key, &value, 0); !done)
          give_up("filling", done.error());
      }
    }
  }

  double time(Loop loop, uint64_t iterations) {
    const double empty = time_steps(iterations, [this](const Lease&, uint64_t random, uint64_t) {
      return BENCH_KEY(BENCH_INDEX(random, entries_)) & 1;
    });
    return time_loop(loop, iterations) - empty;
  }

 private:
  static constexpr uint32_t kHash = 1;
  static constexpr uint32_t kArray = 2;
  static constexpr uint32_t kPerCpuHash = 5;
  static constexpr uint32_t kPerCpuArray = 6;
  static constexpr uint64_t kMissed = uint64_t{1} << 32;

  double time_loop(Loop loop, uint64_t iterations) {
    switch (loop) {
      case Loop::kHashLookup:
        return time_lookup<uint64_t>(*hash_, iterations);
      case Loop::kHashUpdate:
        return time_update<uint64_t>(*hash_, iterations);
      case Loop::kHashChurn:
        return time_churn(*hash_, iterations);
      case Loop::kPerCpuHashLookup:
        return time_lookup<uint64_t>(*percpu_hash_, iterations);
      case Loop::kPerCpuHashUpdate:
        return time_update<uint64_t>(*percpu_hash_, iterations);
      case Loop::kPerCpuHashChurn:
        return time_churn(*percpu_hash_, iterations);
      case Loop::kArrayLookup:
        return time_lookup<uint32_t>(*array_, iterations);
      case Loop::kArrayUpdate:
        return time_update<uint32_t>(*array_, iterations);
      case Loop::kPerCpuArrayLookup:
        return time_lookup<uint32_t>(*percpu_array_, iterations);
      case Loop::kPerCpuArrayUpdate:
        return time_update<uint32_t>(*percpu_array_, iterations);
    }
    return 0;
  }

  template <class Key>
  [[nodiscard]] Key key(uint64_t random) const {
    const uint64_t index = BENCH_INDEX(random, entries_);
    return static_cast<Key>(sizeof(Key) == 8 ? BENCH_KEY(index) : index);
  }

  template <class Step>
  double time_steps(uint64_t iterations, Step step) {
    uint64_t state = seed_;
    uint64_t sum = 0;
    const uint64_t started = now();
    {
      const Lease lease(machine_, Lease::Cpu{0});
      for (uint64_t i = 0; i < iterations; ++i) {
        const uint64_t random = BENCH_NEXT(state);
        sum += step(lease, random, i);
      }
    }
    const uint64_t time = now() - started;
    seed_ = state;
    keep(sum);
    if (sum >= kMissed) {
      std::fprintf(stderr, "skep: %llu operations failed\n", static_cast<unsigned long long>(sum / kMissed));
      std::exit(1);
    }
    return static_cast<double>(time) / static_cast<double>(iterations);
  }

  template <class Key>
  double time_lookup(const Map& map, uint64_t iterations) {
    return time_steps(iterations, [&](const Lease& lease, uint64_t random, uint64_t) {
      const Key wanted = key<Key>(random);
      const void* value = map.find(lease, &wanted);
      return value != nullptr ? __atomic_load_n(static_cast<const uint64_t*>(value), __ATOMIC_RELAXED) & 1 : kMissed;
    });
  }

  template <class Key>
  double time_update(Map& map, uint64_t iterations) {
    return time_steps(iterations, [&](const Lease& lease, uint64_t random, uint64_t) {
      const Key wanted = key<Key>(random);
      return map.update_from_program(lease, &wanted, &random, 0) ? uint64_t{0} : kMissed;
    });
  }

  double time_churn(Map& map, uint64_t iterations) {
    return time_steps(iterations, [&](const Lease& lease, uint64_t random, uint64_t i) {
      constexpr uint64_t kNoExist = 1;
      const uint64_t fresh = BENCH_KEY(entries_ + i);
      const bool inserted = map.update_from_program(lease, &fresh, &random, kNoExist).has_value();
      return inserted && map.erase(lease, &fresh) ? uint64_t{0} : kMissed;
    });
  }

  std::shared_ptr<Instance> instance_;
  Machine& machine_;
  uint64_t entries_;
  uint64_t seed_ = 1;
  std::unique_ptr<Map> hash_;
  std::unique_ptr<Map> percpu_hash_;
  std::unique_ptr<Map> array_;
  std::unique_ptr<Map> percpu_array_;
};

struct Operation {
  const char* what;
  Loop loop;
  int parts;  // map operations per iteration
};

constexpr Operation kOperations[] = {
    {"HASH lookup, in a program", Loop::kHashLookup, 1},
    {"HASH update, in a program", Loop::kHashUpdate, 1},
    {"HASH insert or delete, in a program", Loop::kHashChurn, 2},
    {"PERCPU_HASH lookup, in a program", Loop::kPerCpuHashLookup, 1},
    {"PERCPU_HASH update, in a program", Loop::kPerCpuHashUpdate, 1},
    {"PERCPU_HASH insert or delete, in a program", Loop::kPerCpuHashChurn, 2},
    {"ARRAY lookup, in a program", Loop::kArrayLookup, 1},
    {"ARRAY update, in a program", Loop::kArrayUpdate, 1},
    {"PERCPU_ARRAY lookup, in a program", Loop::kPerCpuArrayLookup, 1},
    {"PERCPU_ARRAY update, in a program", Loop::kPerCpuArrayUpdate, 1},
};

template <class Loops>
Suite::Measure measure(const Operation& operation, uint64_t size, std::shared_ptr<Loops> loops, uint64_t iterations) {
  return [=] {
    pin_to_cpu(0);
    const double time = loops->time(operation.loop, iterations) / operation.parts;
    return std::vector{Figure{operation.what, size, 1, time}};
  };
}

}  // namespace

void add_helpers(Suite& suite, const Plan& plan) {
  Result<std::shared_ptr<Instance>> instance = Instance::open(plan.instances + "/helpers");
  if (!instance) give_up("an instance", instance.error());
  for (const uint64_t size : kSizes) {
    const std::shared_ptr<KernelLoops> kernel = KernelLoops::load(size);
    const auto skep = std::make_shared<SkepLoops>(*instance, size);
    for (const Operation& operation : kOperations) {
      const bool hash = operation.loop <= Loop::kPerCpuHashChurn;
      if (!hash && size != kSizes[0]) continue;
      if (kernel) suite.add("kernel", measure(operation, size, kernel, plan.operations));
      suite.add("skep", measure(operation, size, skep, plan.operations));
    }
  }
  for (const Operation& operation : kOperations) {
    const bool lookup = operation.loop == Loop::kHashLookup || operation.loop == Loop::kPerCpuHashLookup;
    if (lookup) {
      suite.add_target({operation.what, Target::Kind::kTimesFaster, "kernel", 2.5, 0, kSizes[0]});
      suite.add_target({operation.what, Target::Kind::kTimesFaster, "kernel", 3, kSizes[1]});
    } else if (operation.loop <= Loop::kPerCpuHashChurn) {
      suite.add_target({operation.what, Target::Kind::kTimesFaster, "kernel", 3});
    } else {
      suite.add_target({operation.what, Target::Kind::kTimesFaster, "kernel", 1});
    }
  }
}

}  // namespace skep::bench
