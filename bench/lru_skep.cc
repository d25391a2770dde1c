// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>

#include "loop_parameters.h"
#include "lru_subjects.h"
#include "machine/lease.h"
#include "maps/map.h"
#include "object/instance.h"
#include "skep/abi.h"
#include "threads.h"

namespace skep::bench {
namespace {

[[noreturn]] void give_up(const char* what, Errno error) {
  std::fprintf(stderr, "%s: error %d %s\n", what, to_int(error), last_error_sentence());
  std::exit(1);
}

class SkepLru final : public LruSubject {
 public:
  SkepLru(std::shared_ptr<Instance> instance, std::unique_ptr<Map> map, uint64_t entries)
      : instance_(std::move(instance)), map_(std::move(map)), entries_(entries) {
    for (uint64_t number = 0; number < std::size(threads_); ++number) {
      threads_[number] = {.random = number + 1, .fresh = entries + (number << 40) + number % 2};
    }
    const Lease lease(instance_->machine(), Lease::Cpu{0});
    for (uint64_t i = 0; i < entries; ++i) put(lease, BENCH_KEY(i));
  }

  void run(Loop loop, int thread, uint64_t count) override {
    Thread& own = threads_[static_cast<size_t>(thread) % std::size(threads_)];
    Thread state = own;
    const Lease lease(instance_->machine(), Lease::Cpu{static_cast<uint32_t>(thread)});
    uint64_t sum = 0;
    switch (loop) {
      case Loop::kEmpty:
        for (uint64_t i = 0; i < count; ++i) sum += random_key(state) & 1;
        break;
      case Loop::kLookup:
        for (uint64_t i = 0; i < count; ++i) {
          const uint64_t key = random_key(state);
          const void* value = map_->find(lease, &key);
          if (value != nullptr) sum += __atomic_load_n(static_cast<const uint64_t*>(value), __ATOMIC_RELAXED) & 1;
        }
        break;
      case Loop::kUpdate:
        for (uint64_t i = 0; i < count; ++i) put(lease, random_key(state));
        break;
      case Loop::kInsert:
        for (uint64_t i = 0; i < count; ++i, state.fresh += 2) put(lease, BENCH_KEY(state.fresh));
        break;
    }
    keep(sum);
    own = state;
  }

  uint64_t replay(const std::vector<uint64_t>& keys) override {
    const Lease lease(instance_->machine(), Lease::Cpu{0});
    uint64_t hits = 0;
    for (const uint64_t key : keys) {
      if (map_->find(lease, &key) != nullptr) {
        ++hits;
      } else {
        put(lease, key);
      }
    }
    return hits;
  }

 private:
  struct alignas(64) Thread {
    uint64_t random, fresh;
  };

  [[nodiscard]] uint64_t random_key(Thread& state) const {
    const uint64_t random = BENCH_NEXT(state.random);
    return BENCH_KEY(BENCH_INDEX(random, entries_));
  }
  void put(const Lease& lease, uint64_t key) {
    const uint64_t value = 1;
    if (const Status done = map_->update_from_program(lease, &key, &value, 0); !done) give_up("an LRU", done.error());
  }

  std::shared_ptr<Instance> instance_;
  std::unique_ptr<Map> map_;
  const uint64_t entries_;
  Thread threads_[64];
};

}  // namespace

std::unique_ptr<LruSubject> make_skep_lru(const std::string& instances, uint32_t size, uint64_t entries,
                                          uint32_t flags) {
  Result<std::shared_ptr<Instance>> instance = Instance::open(instances + "/lru");
  if (!instance) give_up("an instance", instance.error());
  Result<FileDescriptor> file = (*instance)->make_file(ObjectKind::kMap);
  if (!file) give_up("a map file", file.error());
  MapCreation creation;
  creation.spec = MapSpec{.type = BPF_MAP_TYPE_LRU_HASH,
                          .key_size = 8,
                          .value_size = 8,
                          .max_entries = size,
                          .flags = flags,
                          .numa_node = 0,
                          .extra = 0,
                          .fields = {}};
  Result<std::unique_ptr<Map>> map = create_map(file->get(), creation, (*instance)->machine());
  if (!map) give_up("an LRU map", map.error());
  return std::make_unique<SkepLru>(*instance, std::move(*map), entries);
}

}  // namespace skep::bench
