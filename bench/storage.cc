// SPDX-License-Identifier: Apache-2.0
// Local storage: of the current task as a program's helpers reach it, and of an application's objects by reference.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <skep/abi.h>
#include <skep/map.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "loop_parameters.h"
#include "machine/lease.h"
#include "maps/storage_map.h"
#include "object/instance.h"
#include "sources.h"
#include "storage/current_task.h"
#include "storage/storage_busy.h"
#include "threads.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#include "storage_loops.skel.h"
#pragma GCC diagnostic pop

namespace skep::bench {

namespace {

constexpr uint64_t kFailed = uint64_t{1} << 32;
constexpr uint64_t kStepsPerLease = 1000;  // a program's run ends sooner or later, and its lease with it
constexpr char kTaskGet[] = "task storage get, current task, in a program";
constexpr char kTaskChurn[] = "task storage create and delete, in a program";
constexpr char kObjectGet[] = "object storage get by reference, C++";
constexpr char kObjectLife[] = "object with one value, from attach to destruction, C++";

enum class Loop { kEmpty, kGet, kChurn };

[[noreturn]] void give_up(const char* what, int error) {
  std::fprintf(stderr, "%s: error %d %s\n", what, error, last_error_sentence());
  std::exit(1);
}

void check_sum(uint64_t sum) {
  keep(sum);
  if (sum >= kFailed) give_up("operations on storage failed", 0);
}

class KernelStorage {
 public:
  /// Null, after a sentence on stderr, where the kernel refuses.
  static std::unique_ptr<KernelStorage> load() {
    libbpf_set_print(nullptr);
    std::unique_ptr<KernelStorage> loops(new KernelStorage(storage_loops__open_and_load()));
    if (loops->skeleton_ != nullptr) return loops;
    std::fprintf(stderr, "no kernel figures for local storage\n");
    return nullptr;
  }
  KernelStorage(const KernelStorage&) = delete;
  KernelStorage& operator=(const KernelStorage&) = delete;
  ~KernelStorage() {
    if (skeleton_ != nullptr) storage_loops__destroy(skeleton_);
  }

  void run(Loop loop, uint64_t iterations) {
    skeleton_->bss->iterations = static_cast<uint32_t>(iterations);
    LIBBPF_OPTS(bpf_test_run_opts, options);
    const bpf_program* program = loop == Loop::kEmpty ? skeleton_->progs.empty
                                 : loop == Loop::kGet ? skeleton_->progs.get
                                                      : skeleton_->progs.churn;
    const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options);
    if (error != 0) give_up("a kernel program", error);
    check_sum(skeleton_->bss->result);
  }

 private:
  explicit KernelStorage(storage_loops* skeleton) : skeleton_(skeleton) {}
  storage_loops* skeleton_;
};

class SkepStorage {
 public:
  explicit SkepStorage(std::shared_ptr<Instance> instance) : instance_(std::move(instance)) {
    Result<FileDescriptor> file = instance_->make_file(ObjectKind::kMap);
    if (!file) give_up("a map file", to_int(file.error()));
    MapCreation creation{};
    creation.spec.type = BPF_MAP_TYPE_TASK_STORAGE;
    creation.spec.key_size = 4;
    creation.spec.value_size = 8;
    creation.spec.flags = BPF_F_NO_PREALLOC;
    Result<std::unique_ptr<Map>> map = create_map(file->get(), creation, instance_->machine());
    if (!map) give_up("a map", to_int(map.error()));
    const auto id =
        instance_->publish(ObjectKind::kMap, file->get(), [&](uint32_t given) { (*map)->header().file.id = given; });
    if (!id) give_up("a map's id", to_int(id.error()));
    map_ = *std::move(map);
  }

  void run(Loop loop, uint64_t iterations) {
    auto& map = static_cast<StorageMap&>(*map_);
    uint64_t state = 1;
    uint64_t sum = 0;
    for (uint64_t done = 0; done < iterations; done += kStepsPerLease) {
      const Lease lease(instance_->machine(), Lease::Cpu{0});
      const uint64_t steps = std::min(kStepsPerLease, iterations - done);
      if (loop == Loop::kEmpty) {
        for (uint64_t i = 0; i < steps; ++i) sum += BENCH_NEXT(state) & 1;
      } else if (loop == Loop::kGet) {
        if (done == 0) keep(reinterpret_cast<uint64_t>(map.get_or_make(lease, *task(map, lease, true), nullptr)));
        for (uint64_t i = 0; i < steps; ++i) sum += get(map, lease, BENCH_NEXT(state));
      } else {
        if (done == 0) static_cast<void>(map.erase(lease, *task(map, lease, true)));
        for (uint64_t i = 0; i < steps; ++i) sum += churn(map, lease, BENCH_NEXT(state));
      }
    }
    check_sum(sum);
  }

 private:
  static Result<Owner> task(StorageMap& map, const Lease& lease, bool make) {
    return find_current_task(lease, map.owners(), make);
  }
  [[gnu::always_inline]] static uint64_t get(StorageMap& map, const Lease& lease, uint64_t random) {
    const auto* value = static_cast<const uint64_t*>(map.get(lease, *task(map, lease, false)));
    return value != nullptr ? __atomic_load_n(value, __ATOMIC_RELAXED) & random & 1 : kFailed;
  }
  static uint64_t churn(StorageMap& map, const Lease& lease, uint64_t random) {
    const StorageBusy busy(OwnerKind::kTask);
    const auto* value = static_cast<const uint64_t*>(map.get_or_make(lease, *task(map, lease, true), nullptr));
    if (value == nullptr || !map.erase(lease, *task(map, lease, false))) return kFailed;
    return __atomic_load_n(value, __ATOMIC_RELAXED) & random & 1;
  }

  std::shared_ptr<Instance> instance_;
  std::unique_ptr<Map> map_;
};

/// Through the C functions under the C++ classes.
class Objects {
 public:
  explicit Objects(const std::string& directory) {
    skep_map_attr attr{};
    attr.size = sizeof attr;
    attr.type = BPF_MAP_TYPE_TASK_STORAGE;
    attr.key_size = 4;
    attr.value_size = 8;
    attr.flags = BPF_F_NO_PREALLOC;
    int error = skep_instance_open(directory.c_str(), &instance_);
    if (error == 0) error = skep_map_create(instance_, &attr, &map_);
    if (error == 0) error = skep_owner_make(instance_, &object_);
    const uint64_t value = 1;
    if (error == 0) error = skep_storage_update(map_, object_, &value, 0);
    if (error != 0) give_up("an object's storage", error);
  }
  Objects(const Objects&) = delete;
  Objects& operator=(const Objects&) = delete;
  ~Objects() {
    skep_map_close(map_);
    skep_instance_close(instance_);
  }

  void get(uint64_t operations) const {
    uint64_t state = 1;
    uint64_t sum = 0;
    skep_guard guard;
    skep_guard_enter(map_, &guard);
    for (uint64_t i = 0; i < operations; ++i) {
      const auto* value = static_cast<const uint64_t*>(skep_storage_find(map_, &guard, object_));
      sum += value != nullptr ? __atomic_load_n(value, __ATOMIC_RELAXED) & BENCH_NEXT(state) : kFailed;
    }
    skep_guard_leave(&guard);
    check_sum(sum);
  }
  void live(uint64_t operations) const {
    uint64_t failed = 0;
    for (uint64_t i = 0; i < operations; ++i) {
      uint64_t object = 0;
      if (skep_owner_make(instance_, &object) != 0 || skep_storage_update(map_, object, &i, 0) != 0 ||
          skep_owner_destroy(instance_, object) != 0) {
        failed += kFailed;
      }
    }
    check_sum(failed);
  }

 private:
  skep_instance* instance_ = nullptr;
  skep_map* map_ = nullptr;
  uint64_t object_ = 0;
};

/// Net of the empty loop, which runs just before.
template <class Storage>
Suite::Measure measure(const char* what, Loop loop, std::shared_ptr<Storage> storage, uint64_t iterations) {
  return [=] {
    const auto time = [&](Loop timed) {
      return time_threads(1, iterations, [&](int, uint64_t count) { storage->run(timed, count); });
    };
    const double empty = time(Loop::kEmpty);
    return std::vector{Figure{what, 1, 1, time(loop) - empty}};
  };
}

}  // namespace

void add_storage(Suite& suite, const Plan& plan) {
  Result<std::shared_ptr<Instance>> instance = Instance::open(plan.instances + "/storage");
  if (!instance) give_up("an instance", to_int(instance.error()));
  const std::shared_ptr<KernelStorage> kernel = KernelStorage::load();
  const auto skep = std::make_shared<SkepStorage>(*instance);
  const auto objects = std::make_shared<Objects>(plan.instances + "/storage");
  const struct {
    const char* what;
    Loop loop;
    uint64_t iterations;
    double times;
  } rows[] = {{kTaskGet, Loop::kGet, plan.operations, 4}, {kTaskChurn, Loop::kChurn, plan.operations / 10, 10}};
  for (const auto& row : rows) {
    if (kernel) suite.add("kernel", measure(row.what, row.loop, kernel, row.iterations));
    suite.add("skep", measure(row.what, row.loop, skep, row.iterations));
    suite.add_target({row.what, Target::Kind::kTimesFaster, "kernel", row.times});
  }
  suite.add("skep", [=, operations = plan.operations] {
    const double get = time_threads(1, operations, [&](int, uint64_t count) { objects->get(count); });
    const double life = time_threads(1, operations / 10, [&](int, uint64_t count) { objects->live(count); });
    return std::vector{Figure{kObjectGet, 1, 1, get}, Figure{kObjectLife, 1, 1, life}};
  });
  suite.add_target({kObjectGet, Target::Kind::kAbsolute, "skep", 5});
}

}  // namespace skep::bench
