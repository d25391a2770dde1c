// SPDX-License-Identifier: Apache-2.0
#include "prefetch_floor.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "loop_parameters.h"
#include "threads.h"

namespace skep::bench {

PrefetchFloor::PrefetchFloor(uint64_t entries)
    : buckets_(entries / 8), bytes_(buckets_ * sizeof(Bucket) + entries * sizeof(Element)) {
  void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    std::exit(1);
  }
  table_ = static_cast<Bucket*>(memory);
  elements_ = reinterpret_cast<Element*>(table_ + buckets_);

  std::vector<uint32_t> order(entries);
  for (uint64_t i = 0; i < entries; ++i) order[i] = static_cast<uint32_t>(i);
  uint64_t state = 1;
  for (uint64_t i = entries - 1; i > 0; --i) {
    const uint64_t random = BENCH_NEXT(state);
    std::swap(order[i], order[BENCH_INDEX(random, i + 1)]);
  }
  for (uint64_t i = 0; i < entries; ++i) {
    table_[i / 8].indices[i % 8] = order[i];
    elements_[order[i]] = {BENCH_KEY(i), i};
  }
}

PrefetchFloor::~PrefetchFloor() { munmap(table_, bytes_); }

double PrefetchFloor::time(uint64_t seed, uint64_t keys) {
  uint64_t state = seed;
  uint64_t sum = 0;
  const uint64_t groups = (keys + kGroup - 1) / kGroup;
  const uint64_t started = now();
  for (uint64_t group = 0; group < groups; ++group) {
    uint64_t places[kGroup];
    const Element* elements[kGroup];
    for (uint64_t& place : places) {
      const uint64_t random = BENCH_NEXT(state);
      place = BENCH_INDEX(random, buckets_ * 8);
      __builtin_prefetch(&table_[place / 8]);
    }
    for (uint32_t i = 0; i < kGroup; ++i) {
      elements[i] = &elements_[table_[places[i] / 8].indices[places[i] % 8]];
      __builtin_prefetch(elements[i]);
    }
    for (const Element* element : elements) sum += element->value;
  }
  const uint64_t time = now() - started;
  keep(sum);
  return static_cast<double>(time) / static_cast<double>(groups * kGroup);
}

}  // namespace skep::bench
