// SPDX-License-Identifier: Apache-2.0
// LPM_TRIE lookups as a program's helper does them: skep's called from C++ under one lease, the kernel's from its
// compiled programs; both net of the empty loop, over the same prefixes and keys.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#include "lpm_loops.skel.h"
#pragma GCC diagnostic pop
#include "lpm_parameters.h"
#include "machine/lease.h"
#include "maps/map.h"
#include "object/instance.h"
#include "sources.h"
#include "threads.h"

namespace skep::bench {
namespace {

enum class Loop { kEmpty, kHost4, kRandom4, kHost16 };

constexpr uint64_t kTrieSizes[] = {1 << 16, 1 << 20};

lpm_key4 prefix4(uint64_t index) { return LPM_KEY4(LPM_ADDRESS(index), LPM_LENGTH(index)); }
lpm_key16 prefix16(uint64_t index) { return LPM_KEY16(LPM_HIGH(index), LPM_LOW(index), LPM_LONG_LENGTH(index)); }

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, last_error_sentence());
  std::exit(1);
}

class KernelTries {
 public:
  /// Null, after a sentence on stderr, where the kernel refuses.
  static std::shared_ptr<KernelTries> load(uint64_t size) {
    libbpf_set_print(nullptr);
    auto tries = std::make_shared<KernelTries>();
    lpm_loops* skeleton = tries->skeleton_ = lpm_loops__open();
    if (skeleton != nullptr) {
      for (bpf_map* map : {skeleton->maps.trie4, skeleton->maps.trie16}) {
        bpf_map__set_max_entries(map, static_cast<uint32_t>(size));
      }
      skeleton->bss->entries = size;
      skeleton->bss->seed = 1;
      if (lpm_loops__load(skeleton) == 0 && tries->fill(size)) return tries;
    }
    std::perror("no kernel figures for LPM_TRIE");
    return nullptr;
  }
  KernelTries() = default;
  KernelTries(const KernelTries&) = delete;
  KernelTries& operator=(const KernelTries&) = delete;
  ~KernelTries() {
    if (skeleton_ != nullptr) lpm_loops__destroy(skeleton_);
  }

  double time(Loop loop, uint64_t iterations) {
    const double empty = run(skeleton_->progs.empty, iterations);
    bpf_program* const programs[] = {skeleton_->progs.empty, skeleton_->progs.host4, skeleton_->progs.random4,
                                     skeleton_->progs.host16};
    return run(programs[static_cast<size_t>(loop)], iterations) - empty;
  }

 private:
  bool fill(uint64_t size) {
    const uint64_t value = 1;
    for (uint64_t i = 0; i < size; ++i) {
      const lpm_key4 key4 = prefix4(i);
      const lpm_key16 key16 = prefix16(i);
      if (bpf_map__update_elem(skeleton_->maps.trie4, &key4, sizeof(key4), &value, 8, BPF_ANY) != 0 ||
          bpf_map__update_elem(skeleton_->maps.trie16, &key16, sizeof(key16), &value, 8, BPF_ANY) != 0) {
        return false;
      }
    }
    return true;
  }
  double run(bpf_program* program, uint64_t iterations) {
    unsigned char packet[64] = {};
    skeleton_->bss->iterations = static_cast<uint32_t>(iterations);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet), .repeat = 1);
    const uint64_t started = now();
    if (bpf_prog_test_run_opts(bpf_program__fd(program), &options) != 0) give_up(bpf_program__name(program));
    return static_cast<double>(now() - started) / static_cast<double>(iterations);
  }

  lpm_loops* skeleton_ = nullptr;
};

class SkepTries {
 public:
  SkepTries(std::shared_ptr<Instance> instance, uint64_t size)
      : instance_(std::move(instance)),
        machine_(instance_->machine()),
        entries_(size),
        trie4_(make(8)),
        trie16_(make(20)) {
    const uint64_t value = 1;
    for (uint64_t i = 0; i < size; ++i) {
      const Lease lease(machine_, Lease::Cpu{0});
      const lpm_key4 key4 = prefix4(i);
      const lpm_key16 key16 = prefix16(i);
      if (!trie4_->update_from_program(lease, &key4, &value, 0) ||
          !trie16_->update_from_program(lease, &key16, &value, 0)) {
        give_up("filling");
      }
    }
  }

  double time(Loop loop, uint64_t iterations) {
    const double empty = time_loop(Loop::kEmpty, iterations);
    return time_loop(loop, iterations) - empty;
  }

 private:
  std::unique_ptr<Map> make(uint32_t key_size) {
    Result<FileDescriptor> file = instance_->make_file(ObjectKind::kMap);
    if (!file) give_up("a map file");
    MapCreation creation;
    creation.spec.type = BPF_MAP_TYPE_LPM_TRIE;
    creation.spec.key_size = key_size;
    creation.spec.value_size = 8;
    creation.spec.max_entries = static_cast<uint32_t>(entries_);
    creation.spec.flags = BPF_F_NO_PREALLOC;
    Result<std::unique_ptr<Map>> map = create_map(file->get(), creation, machine_);
    if (!map) give_up("a trie");
    return std::move(*map);
  }

  template <class Step>
  double time_steps(uint64_t iterations, Step step) {
    uint64_t state = seed_, sum = 0;
    const uint64_t started = now();
    {
      const Lease lease(machine_, Lease::Cpu{0});
      for (uint64_t i = 0; i < iterations; ++i) {
        const uint64_t random = BENCH_NEXT(state);
        sum += step(lease, random, BENCH_INDEX(random, entries_));
      }
    }
    const uint64_t time = now() - started;
    seed_ = state;
    keep(sum);
    return static_cast<double>(time) / static_cast<double>(iterations);
  }
  static uint64_t look_up(const Lease& lease, const Map& map, const void* key) {
    const void* value = map.find(lease, key);
    return value != nullptr ? *static_cast<const uint64_t*>(value) & 1 : 2;
  }
  double time_loop(Loop loop, uint64_t iterations) {
    switch (loop) {
      case Loop::kEmpty:
        return time_steps(iterations, [](const Lease&, uint64_t, uint64_t index) {
          const lpm_key4 key = LPM_KEY4(LPM_ADDRESS(index), 32);
          return uint64_t{key.address & 1};
        });
      case Loop::kHost4:
        return time_steps(iterations, [this](const Lease& lease, uint64_t, uint64_t index) {
          const lpm_key4 key = LPM_KEY4(LPM_ADDRESS(index), 32);
          return look_up(lease, *trie4_, &key);
        });
      case Loop::kRandom4:
        return time_steps(iterations, [this](const Lease& lease, uint64_t random, uint64_t) {
          const lpm_key4 key = LPM_KEY4(static_cast<unsigned>(random), 32);
          return look_up(lease, *trie4_, &key);
        });
      case Loop::kHost16:
        return time_steps(iterations, [this](const Lease& lease, uint64_t, uint64_t index) {
          const lpm_key16 key = LPM_KEY16(LPM_HIGH(index), LPM_LOW(index), 128);
          return look_up(lease, *trie16_, &key);
        });
    }
    return 0;
  }

  std::shared_ptr<Instance> instance_;
  Machine& machine_;
  uint64_t entries_;
  uint64_t seed_ = 1;
  std::unique_ptr<Map> trie4_, trie16_;
};

struct Operation {
  const char* what;
  Loop loop;
};
constexpr Operation kOperations[] = {
    {"LPM_TRIE lookup, IPv4 hosts of /8 to /32, in a program", Loop::kHost4},
    {"LPM_TRIE lookup, any IPv4 address, in a program", Loop::kRandom4},
    {"LPM_TRIE lookup, 128 bits, in a program", Loop::kHost16},
};

template <class Tries>
Suite::Measure measure(const Operation& operation, uint64_t size, std::shared_ptr<Tries> tries, uint64_t iterations) {
  return [=] {
    pin_to_cpu(0);
    return std::vector{Figure{operation.what, size, 1, tries->time(operation.loop, iterations)}};
  };
}

}  // namespace

void add_tries(Suite& suite, const Plan& plan) {
  Result<std::shared_ptr<Instance>> instance = Instance::open(plan.instances + "/tries");
  if (!instance) give_up("an instance");
  for (const uint64_t size : kTrieSizes) {
    const std::shared_ptr<KernelTries> kernel = KernelTries::load(size);
    const auto skep = std::make_shared<SkepTries>(*instance, size);
    for (const Operation& operation : kOperations) {
      if (kernel) suite.add("kernel", measure(operation, size, kernel, plan.operations));
      suite.add("skep", measure(operation, size, skep, plan.operations));
    }
  }
  for (const Operation& operation : kOperations) {
    suite.add_target({operation.what, Target::Kind::kTimesFaster, "kernel", 6});
  }
}

}  // namespace skep::bench
