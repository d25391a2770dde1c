// SPDX-License-Identifier: Apache-2.0
// Push, pop and peek of the kinds without keys as a program's helpers do them, by one thread and by two on one map.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "loop_parameters.h"
#include "machine/lease.h"
#include "maps/map.h"
#include "object/instance.h"
#include "sources.h"
#include "threads.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#include "queue_loops.skel.h"
#pragma GCC diagnostic pop

namespace skep::bench {

namespace {

constexpr uint64_t kEntries = 1024;
constexpr uint64_t kFailed = uint64_t{1} << 32;
enum class Loop { kEmpty, kQueue, kStack, kBloomHit, kBloomMiss, kBloomPush };

[[noreturn]] void give_up(const char* what, int error) {
  std::fprintf(stderr, "%s: error %d %s\n", what, error, last_error_sentence());
  std::exit(1);
}

class KernelQueues {
 public:
  /// Null, after a sentence on stderr, where the kernel refuses.
  static std::unique_ptr<KernelQueues> load() {
    libbpf_set_print(nullptr);
    std::unique_ptr<KernelQueues> loops(new KernelQueues);
    loops->skeleton_ = queue_loops__open();
    if (loops->skeleton_ != nullptr) {
      loops->skeleton_->bss->entries = kEntries;
      if (queue_loops__load(loops->skeleton_) == 0 && loops->fill()) return loops;
    }
    std::fprintf(stderr, "no kernel figures for queues\n");
    return nullptr;
  }
  KernelQueues(const KernelQueues&) = delete;
  KernelQueues& operator=(const KernelQueues&) = delete;
  ~KernelQueues() {
    if (skeleton_ != nullptr) queue_loops__destroy(skeleton_);
  }

  void run(Loop loop, uint64_t iterations) {
    const auto& programs = skeleton_->progs;
    bpf_program* const of_loop[] = {programs.empty,     programs.queue_push_pop, programs.stack_push_pop,
                                    programs.bloom_hit, programs.bloom_miss,     programs.bloom_push};
    unsigned char packet[64] = {};
    skeleton_->bss->iterations = static_cast<uint32_t>(iterations);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet), .repeat = 1);
    const int error = bpf_prog_test_run_opts(bpf_program__fd(of_loop[static_cast<size_t>(loop)]), &options);
    if (error != 0 || ((skeleton_->bss->results[0] | skeleton_->bss->results[1]) >> 32) != 0) {
      give_up("a kernel queue", error);
    }
  }

 private:
  KernelQueues() = default;
  [[nodiscard]] bool fill() const {
    for (uint64_t i = 0; i < kEntries; ++i) {
      const uint64_t value = BENCH_KEY(i);
      if (bpf_map__update_elem(skeleton_->maps.bloom, nullptr, 0, &value, 8, 0) != 0) return false;
    }
    return true;
  }
  queue_loops* skeleton_ = nullptr;
};

class SkepQueues {
 public:
  explicit SkepQueues(std::shared_ptr<Instance> instance)
      : instance_(std::move(instance)), queue_(make_map(22)), stack_(make_map(23)), bloom_(make_map(30)) {
    const Lease lease(instance_->machine());
    for (uint64_t i = 0; i < kEntries; ++i) {
      const uint64_t value = BENCH_KEY(i);
      if (!bloom_->update_from_program(lease, nullptr, &value, 0)) give_up("filling", 0);
    }
  }

  void run(Loop loop, uint64_t iterations, int thread) {
    switch (loop) {
      case Loop::kEmpty:
        return steps(iterations, thread,
                     [](const Lease&, uint64_t random) { return BENCH_KEY(BENCH_INDEX(random, kEntries)) & 1; });
      case Loop::kQueue:
        return push_pop(*queue_, iterations, thread);
      case Loop::kStack:
        return push_pop(*stack_, iterations, thread);
      case Loop::kBloomHit:
        return steps(iterations, thread, [this](const Lease&, uint64_t random) {
          uint64_t value = BENCH_KEY(BENCH_INDEX(random, kEntries));
          return bloom_->lookup(nullptr, &value, 0) ? 1 : kFailed;
        });
      case Loop::kBloomMiss:
        return steps(iterations, thread, [this](const Lease&, uint64_t random) {
          uint64_t value = BENCH_KEY(kEntries + random);
          return uint64_t{bloom_->lookup(nullptr, &value, 0).has_value()};
        });
      case Loop::kBloomPush:
        return steps(iterations, thread, [this](const Lease& lease, uint64_t random) {
          const uint64_t value = BENCH_KEY(BENCH_INDEX(random, kEntries));
          return bloom_->update_from_program(lease, nullptr, &value, 0) ? uint64_t{0} : kFailed;
        });
    }
  }

 private:
  std::unique_ptr<Map> make_map(uint32_t type) {
    Result<FileDescriptor> file = instance_->make_file(ObjectKind::kMap);
    if (!file) give_up("a map file", to_int(file.error()));
    MapCreation creation{};
    creation.spec.type = type;
    creation.spec.value_size = 8;
    creation.spec.max_entries = kEntries;
    Result<std::unique_ptr<Map>> map = create_map(file->get(), creation, instance_->machine());
    if (!map) give_up("a map", to_int(map.error()));
    return std::move(*map);
  }

  template <class Step>
  void steps(uint64_t iterations, int thread, Step step) {
    uint64_t state = 1;
    uint64_t sum = 0;
    const Lease lease(instance_->machine(), Lease::Cpu{static_cast<uint32_t>(thread) % instance_->machine().cpus()});
    for (uint64_t i = 0; i < iterations; ++i) {
      const uint64_t random = BENCH_NEXT(state);
      sum += step(lease, random);
    }
    keep(sum);
    if (sum >= kFailed) give_up("a queue", 0);
  }

  void push_pop(Map& map, uint64_t iterations, int thread) {
    steps(iterations, thread, [&](const Lease& lease, uint64_t random) {
      uint64_t value = random;
      const bool pushed = map.update_from_program(lease, nullptr, &value, 0).has_value();
      return pushed && map.take(lease, nullptr, &value, 0) ? value & 1 : kFailed;
    });
  }

  std::shared_ptr<Instance> instance_;
  std::unique_ptr<Map> queue_, stack_, bloom_;
};

struct Operation {
  const char* what;
  Loop loop;
  int threads;
  double target;  // times faster than the kernel; 0: none
};

constexpr Operation kOperations[] = {
    {"QUEUE push and pop, in a program", Loop::kQueue, 1, 4},
    {"QUEUE push and pop, in a program", Loop::kQueue, 2, 5},
    {"STACK push and pop, in a program", Loop::kStack, 1, 0},
    {"STACK push and pop, in a program", Loop::kStack, 2, 0},
    {"BLOOM_FILTER peek, there, in a program", Loop::kBloomHit, 1, 4},
    {"BLOOM_FILTER peek, not there, in a program", Loop::kBloomMiss, 1, 4},
    {"BLOOM_FILTER push, in a program", Loop::kBloomPush, 1, 0},
};

/// Net of the empty loop, which runs just before.
template <class Run>
Suite::Measure measure(const Operation& operation, uint64_t iterations, Run run) {
  return [=] {
    const auto time = [&](Loop loop) {
      return time_threads(operation.threads, iterations, [&](int thread, uint64_t count) { run(loop, count, thread); });
    };
    const double empty = time(Loop::kEmpty);
    return std::vector{Figure{operation.what, kEntries, operation.threads, time(operation.loop) - empty}};
  };
}

}  // namespace

void add_queues(Suite& suite, const Plan& plan) {
  Result<std::shared_ptr<Instance>> instance = Instance::open(plan.instances + "/queues");
  if (!instance) give_up("an instance", to_int(instance.error()));
  const std::shared_ptr<KernelQueues> kernel = KernelQueues::load();
  const auto skep = std::make_shared<SkepQueues>(*instance);
  for (const Operation& operation : kOperations) {
    if (kernel) {
      suite.add("kernel", measure(operation, plan.operations,
                                  [kernel](Loop loop, uint64_t count, int) { kernel->run(loop, count); }));
    }
    suite.add("skep", measure(operation, plan.operations,
                              [skep](Loop loop, uint64_t count, int thread) { skep->run(loop, count, thread); }));
    if (operation.target > 0 && operation.threads == 1) {
      suite.add_target({operation.what, Target::Kind::kTimesFaster, "kernel", operation.target});
    }
  }
}

}  // namespace skep::bench
