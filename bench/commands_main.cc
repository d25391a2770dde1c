// SPDX-License-Identifier: Apache-2.0
// Times bpf(2) commands of whoever answers bpf(2) in this process, and prints a line per figure: entries, nanoseconds,
// what. The harness starts it once as it is (the kernel) and once with skep's preload library.
// usage: skep-bench-commands [--quick]
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <string_view>
#include <vector>

#include "bpf_call.h"
#include "loop_parameters.h"
#include "sizes.h"

namespace skep::bench {

namespace {

constexpr uint32_t kBatch = 1000;

uint64_t now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

/// Runs `operation(random)` that often and prints the mean time; fails if any of them did.
template <class Operation>
bool time_operations(const char* what, uint64_t entries, uint64_t count, uint64_t per_operation, Operation operation) {
  uint64_t state = 1;
  const uint64_t started = now();
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t random = BENCH_NEXT(state);
    if (operation(random, i) != 0) {
      std::perror(what);
      return false;
    }
  }
  const double nanoseconds = static_cast<double>(now() - started) / static_cast<double>(count * per_operation);
  std::printf("%llu %.2f %s\n", static_cast<unsigned long long>(entries), nanoseconds, what);
  return true;
}

bool time_hash(uint64_t size, uint64_t count) {
  const int map = create_map(BPF_MAP_TYPE_HASH, 8, static_cast<uint32_t>(size));
  if (map < 0) {
    std::perror("BPF_MAP_CREATE");
    return false;
  }
  const uint64_t filled = size - kSpare;
  std::vector<uint64_t> keys(filled);
  for (uint64_t i = 0; i < filled; ++i) keys[i] = BENCH_KEY(i);
  for (uint64_t i = 0; i < filled; i += kBatch) {
    const auto part = static_cast<uint32_t>(std::min<uint64_t>(kBatch, filled - i));
    if (update_batch(map, &keys[i], &keys[i], part) != 0) return false;
  }

  const auto lookup = [&](uint64_t random, uint64_t) {
    const uint64_t key = BENCH_KEY(BENCH_INDEX(random, filled));
    uint64_t value = 0;
    return element(BPF_MAP_LOOKUP_ELEM, map, &key, &value);
  };
  const auto nothing = [&](uint64_t random, uint64_t) {
    const uint64_t key = BENCH_KEY(BENCH_INDEX(random, filled));
    uint64_t value = 0;
    bpf_attr attributes = element_attributes(map, &key, &value, 0);
    asm volatile("" : : "r"(&attributes) : "memory");
    return 0;
  };
  const auto update = [&](uint64_t random, uint64_t) {
    const uint64_t key = BENCH_KEY(BENCH_INDEX(random, filled));
    return element(BPF_MAP_UPDATE_ELEM, map, &key, &random);
  };
  const auto churn = [&](uint64_t random, uint64_t i) {
    const uint64_t key = BENCH_KEY(filled + i);
    const long inserted = element(BPF_MAP_UPDATE_ELEM, map, &key, &random, BPF_NOEXIST);
    return inserted != 0 ? inserted : element(BPF_MAP_DELETE_ELEM, map, &key, nullptr);
  };
  const auto next_key = [&](uint64_t random, uint64_t) {
    const uint64_t key = BENCH_KEY(BENCH_INDEX(random, filled));
    uint64_t next = 0;
    const long result = element(BPF_MAP_GET_NEXT_KEY, map, &key, &next);
    return result != 0 && errno == ENOENT ? 0 : result;
  };
  uint32_t cursor = 0;
  bool at_start = true;
  std::vector<uint64_t> batch_keys(kBatch);
  std::vector<uint64_t> batch_values(kBatch);
  uint64_t delivered = 0;
  const auto lookup_batch = [&](uint64_t, uint64_t) -> long {
    bpf_attr attributes{};
    attributes.batch.map_fd = static_cast<uint32_t>(map);
    attributes.batch.in_batch = at_start ? 0 : reinterpret_cast<uint64_t>(&cursor);
    attributes.batch.out_batch = reinterpret_cast<uint64_t>(&cursor);
    attributes.batch.keys = reinterpret_cast<uint64_t>(batch_keys.data());
    attributes.batch.values = reinterpret_cast<uint64_t>(batch_values.data());
    attributes.batch.count = kBatch;
    const long result = bpf(BPF_MAP_LOOKUP_BATCH, attributes);
    delivered += attributes.batch.count;
    at_start = result != 0;
    return result != 0 && errno == ENOENT ? 0 : result;
  };
  const auto update_some = [&](uint64_t random, uint64_t) {
    const uint64_t first = BENCH_INDEX(random, filled > kBatch ? filled - kBatch : 1);
    return update_batch(map, &keys[first], batch_values.data(),
                        static_cast<uint32_t>(std::min<uint64_t>(kBatch, filled)));
  };

  bool good = time_operations("the loop around bpf(2), part of each such row", size, count, 1, nothing) &&
              time_operations("HASH lookup, bpf(2)", size, count, 1, lookup) &&
              time_operations("HASH update, bpf(2)", size, count, 1, update) &&
              time_operations("HASH insert and delete, bpf(2), each", size, count / 2, 2, churn) &&
              time_operations("HASH next key, bpf(2)", size, count, 1, next_key);

  const uint64_t batches = std::max<uint64_t>(count / kBatch, 20);
  const uint64_t started = now();
  for (uint64_t i = 0; i < batches && good; ++i) good = lookup_batch(0, 0) == 0;
  if (good) {
    std::printf("%llu %.2f HASH batch lookup, bpf(2), per element\n", static_cast<unsigned long long>(size),
                static_cast<double>(now() - started) / static_cast<double>(delivered));
  }
  good = good && time_operations("HASH batch update, bpf(2), per element", size, batches,
                                 std::min<uint64_t>(kBatch, filled), update_some);
  close(map);
  return good;
}

bool time_array(uint32_t type, const char* lookup_name, const char* update_name, uint64_t size, uint64_t count) {
  const int map = create_map(type, 4, static_cast<uint32_t>(size));
  if (map < 0) {
    std::perror("BPF_MAP_CREATE");
    return false;
  }
  uint64_t values[kMaximumCpus] = {};
  const auto lookup = [&](uint64_t random, uint64_t) {
    const auto key = static_cast<uint32_t>(BENCH_INDEX(random, size));
    return element(BPF_MAP_LOOKUP_ELEM, map, &key, values);
  };
  const auto update = [&](uint64_t random, uint64_t) {
    const auto key = static_cast<uint32_t>(BENCH_INDEX(random, size));
    return element(BPF_MAP_UPDATE_ELEM, map, &key, values);
  };
  const bool good =
      time_operations(lookup_name, size, count, 1, lookup) && time_operations(update_name, size, count, 1, update);
  close(map);
  return good;
}

}  // namespace

}  // namespace skep::bench

int main(int argc, char** argv) {
  using namespace skep::bench;
  const bool quick = argc > 1 && std::string_view(argv[1]) == "--quick";
  const uint64_t count = quick ? 20'000 : 100'000;
  for (const uint64_t size : kSizes) {
    if (!time_hash(size, count)) return 1;
  }
  const bool good =
      time_array(BPF_MAP_TYPE_ARRAY, "ARRAY lookup, bpf(2)", "ARRAY update, bpf(2)", 1024, count) &&
      time_array(BPF_MAP_TYPE_PERCPU_ARRAY, "PERCPU_ARRAY lookup, bpf(2)", "PERCPU_ARRAY update, bpf(2)", 1024, count);
  return good ? 0 : 1;
}
