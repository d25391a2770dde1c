// SPDX-License-Identifier: Apache-2.0
// bpf_timer_start() on a timer that is armed: what a program does that pushes a deadline back.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "loop_parameters.h"
#include "machine/lease.h"
#include "maps/map.h"
#include "object/instance.h"
#include "prog/assembler.h"
#include "prog/timers.h"
#include "sources.h"
#include "threads.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#include "timer_loops.skel.h"
#pragma GCC diagnostic pop

namespace skep::bench {

namespace {

constexpr uint64_t kFailed = uint64_t{1} << 32;
constexpr uint64_t kDelay = 1'000'000'000'000;  // ns: it never expires here
constexpr const char* kWhat = "timer restart, in a program";

[[noreturn]] void give_up(const char* what, int error) {
  std::fprintf(stderr, "%s: error %d %s\n", what, error, last_error_sentence());
  std::exit(1);
}

class KernelTimer {
 public:
  /// Null, after a sentence on stderr, where the kernel refuses.
  static std::unique_ptr<KernelTimer> load() {
    libbpf_set_print(nullptr);
    std::unique_ptr<KernelTimer> loops(new KernelTimer(timer_loops__open_and_load()));
    if (loops->skeleton_ != nullptr) return loops;
    std::fprintf(stderr, "no kernel figures for timers\n");
    return nullptr;
  }
  KernelTimer(const KernelTimer&) = delete;
  KernelTimer& operator=(const KernelTimer&) = delete;
  ~KernelTimer() {
    if (skeleton_ != nullptr) timer_loops__destroy(skeleton_);
  }

  void run(bool restart, uint64_t iterations) {
    unsigned char packet[64] = {};
    skeleton_->bss->iterations = static_cast<uint32_t>(iterations);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet), .repeat = 1);
    const bpf_program* program = restart ? skeleton_->progs.restart : skeleton_->progs.empty;
    const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options);
    constexpr uint32_t kXdpPass = 2;
    if (error != 0 || options.retval != kXdpPass || skeleton_->bss->result >> 32 != 0) {
      give_up("a kernel timer", error);
    }
  }

 private:
  explicit KernelTimer(timer_loops* skeleton) : skeleton_(skeleton) {}
  timer_loops* skeleton_;
};

class SkepTimer {
 public:
  explicit SkepTimer(std::shared_ptr<Instance> instance) : instance_(std::move(instance)), map_(make_map()) {
    using namespace assembler;
    const auto code = assemble({load_map(r1, 0), load_function(r2, 3), mov(r0, 0), exit_(), mov(r0, 0), exit_()});
    ProgramDescription description;
    description.type = 6;  // XDP
    description.instructions = code;
    description.maps = {map_};
    auto program = Program::prepare(description);
    if (!program) give_up("a program", to_int(program.error()));
    program_ = *std::move(program);
    timers_ = std::make_unique<Timers>(instance_->machine(), RunEnvironment{});
    const Lease lease(instance_->machine());
    const uint32_t key = 0;
    void* const value = map_->find(lease, &key);
    place_ = {.field = static_cast<TimerField*>(value), .value = value, .map = program_->code().maps.data()};
    if (timers_->init(place_, 1) != 0 || timers_->set_callback(place_, program_->code(), 4) != 0) {
      give_up("a timer", 0);
    }
  }

  void run(bool restart, uint64_t iterations) {
    uint64_t state = 1;
    uint64_t sum = 0;
    const Lease lease(instance_->machine(), Lease::Cpu{0});
    for (uint64_t i = 0; i < iterations; ++i) {
      sum += BENCH_NEXT(state) & 1;
      if (restart && timers_->start(place_, kDelay, 0, lease) != 0) sum += kFailed;
    }
    keep(sum);
    if (sum >= kFailed) give_up("a timer", 0);
  }

 private:
  std::shared_ptr<Map> make_map() {
    Result<FileDescriptor> file = instance_->make_file(ObjectKind::kMap);
    if (!file) give_up("a map file", to_int(file.error()));
    MapCreation creation{};
    creation.spec.type = 2;  // ARRAY
    creation.spec.key_size = 4;
    creation.spec.value_size = sizeof(TimerField);
    creation.spec.max_entries = 1;
    creation.spec.fields.timer = 0;
    Result<std::unique_ptr<Map>> map = create_map(file->get(), creation, instance_->machine());
    if (!map) give_up("a map", to_int(map.error()));
    return *std::move(map);
  }

  std::shared_ptr<Instance> instance_;
  std::shared_ptr<Map> map_;
  std::unique_ptr<Program> program_;
  std::unique_ptr<Timers> timers_;
  TimerPlace place_{};
};

/// Net of the empty loop, which runs just before.
template <class Timer>
Suite::Measure measure(std::shared_ptr<Timer> timer, uint64_t iterations) {
  return [=] {
    const auto time = [&](bool restart) {
      return time_threads(1, iterations, [&](int, uint64_t count) { timer->run(restart, count); });
    };
    const double empty = time(false);
    return std::vector{Figure{kWhat, 1, 1, time(true) - empty}};
  };
}

}  // namespace

void add_timers(Suite& suite, const Plan& plan) {
  Result<std::shared_ptr<Instance>> instance = Instance::open(plan.instances + "/timers");
  if (!instance) give_up("an instance", to_int(instance.error()));
  if (std::shared_ptr<KernelTimer> kernel = KernelTimer::load()) {
    suite.add("kernel", measure(kernel, plan.operations));
  }
  suite.add("skep", measure(std::make_shared<SkepTimer>(*instance), plan.operations));
  suite.add_target({kWhat, Target::Kind::kTimesFaster, "kernel", 4});
}

}  // namespace skep::bench
