// SPDX-License-Identifier: Apache-2.0
//
// Random bpf(2) operations on the kernel and on skep side by side. SKEP_ORACLE_OPS sets how many (default 200,000),
// SKEP_ORACLE_SEED replays a run: the seed of every run is printed.
#include <gtest/gtest.h>
#include <skep/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "generator.h"
#include "guarded_arena.h"
#include "operation.h"
#include "sample_btf.h"
#include "side.h"

namespace skep::oracle {
namespace {

uint64_t number_from_environment(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text != nullptr ? strtoull(text, nullptr, 0) : otherwise;
}

uint32_t possible_cpus() {
  std::ifstream file("/sys/devices/system/cpu/possible");
  std::string text;
  std::getline(file, text);
  const auto dash = text.rfind('-');
  return static_cast<uint32_t>(std::stoul(dash == std::string::npos ? text : text.substr(dash + 1))) + 1;
}

using Contents = std::map<std::vector<uint8_t>, std::vector<uint8_t>>;

/// All of a map by next_key and lookup; empty with `problem` set when the walk does not end as it must.
Contents walk(const Side& side, int fd, uint32_t key_size, uint32_t value_size, std::string& problem) {
  Contents contents;
  std::vector<uint8_t> key(key_size), next(key_size), value(value_size);
  for (bool first = true;; first = false) {
    union bpf_attr attr = {};
    attr.map_fd = static_cast<uint32_t>(fd);
    attr.key = first ? 0 : reinterpret_cast<uint64_t>(key.data());
    attr.next_key = reinterpret_cast<uint64_t>(next.data());
    if (side.bpf(BPF_MAP_GET_NEXT_KEY, &attr, 32) != 0) {
      if (errno != ENOENT) problem = std::string("next_key: ") + strerror(errno);
      return contents;
    }
    key = next;
    attr = {};
    attr.map_fd = static_cast<uint32_t>(fd);
    attr.key = reinterpret_cast<uint64_t>(key.data());
    attr.value = reinterpret_cast<uint64_t>(value.data());
    if (side.bpf(BPF_MAP_LOOKUP_ELEM, &attr, 32) != 0) {
      problem = std::string("lookup of a key that next_key gave: ") + strerror(errno);
      return contents;
    }
    if (!contents.emplace(key, value).second) {
      problem = "next_key gave a key twice";
      return contents;
    }
  }
}

/// All of a map by small lookup batches that grow on ENOSPC, as clients do it.
Contents walk_by_batch(const Side& side, int fd, const MapModel& map, uint32_t value_size, uint32_t step,
                       std::string& problem) {
  Contents contents;
  std::vector<uint8_t> cursor(std::max(map.key_size, 8u)), next_cursor(cursor.size());
  bool first = true;
  for (uint32_t capacity = step; capacity < 100000;) {
    std::vector<uint8_t> keys(size_t{capacity} * map.key_size), values(size_t{capacity} * value_size);
    union bpf_attr attr = {};
    attr.batch.in_batch = first ? 0 : reinterpret_cast<uint64_t>(cursor.data());
    attr.batch.out_batch = reinterpret_cast<uint64_t>(next_cursor.data());
    attr.batch.keys = reinterpret_cast<uint64_t>(keys.data());
    attr.batch.values = reinterpret_cast<uint64_t>(values.data());
    attr.batch.count = capacity;
    attr.batch.map_fd = static_cast<uint32_t>(fd);
    const int result = side.bpf(BPF_MAP_LOOKUP_BATCH, &attr, 56);
    const int error = result < 0 ? errno : 0;
    if (error == ENOSPC && attr.batch.count == 0) {
      capacity *= 2;
      continue;
    }
    if (error != 0 && error != ENOENT) {
      problem = std::string("lookup batch: ") + strerror(error);
      return contents;
    }
    for (uint32_t i = 0; i < attr.batch.count; ++i) {
      const auto* key = keys.data() + size_t{i} * map.key_size;
      const auto* value = values.data() + size_t{i} * value_size;
      if (!contents
               .emplace(std::vector<uint8_t>(key, key + map.key_size), std::vector<uint8_t>(value, value + value_size))
               .second) {
        problem = "the batches gave a key twice";
        return contents;
      }
    }
    if (error == ENOENT) return contents;
    first = false;
    cursor.swap(next_cursor);
  }
  problem = "no batch was large enough";
  return contents;
}

class OracleTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = kernel_refuses(); !reason.empty()) GTEST_SKIP() << reason;
    char directory[] = "/dev/shm/skep-oracle-XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    setenv("SKEP_DIR", directory, 1);
    const auto blob = sample_btf();
    for (Side* side : {&kernel_, &skep_}) {
      union bpf_attr attr = {};
      attr.btf = reinterpret_cast<uint64_t>(blob.data());
      attr.btf_size = static_cast<uint32_t>(blob.size());
      const int fd = side->bpf(BPF_BTF_LOAD, &attr, sizeof attr);
      ASSERT_GE(fd, 0) << side->name << ": " << strerror(errno);
      side->btfs.push_back(fd);
    }
  }
  void TearDown() override {
    for (Side* side : {&kernel_, &skep_}) {
      for (const auto* fds : {&side->maps, &side->btfs}) {
        for (const int fd : *fds) {
          if (fd >= 0) close(fd);
        }
      }
    }
    if (!directory_.empty()) {
      [[maybe_unused]] const int status = system(("rm -rf " + directory_).c_str());
    }
  }

  /// What the kernel answers. Its allocator for maps without preallocation refills in the background and says ENOMEM
  /// until it has; that is no behaviour to compare, so an update is asked again (it changed nothing, or what it changed
  /// it changes again).
  Outcome ask_kernel(const Operation& operation) {
    for (int tries = 0;; ++tries) {
      Outcome outcome = execute(operation, kernel_, arena_);
      const bool update = operation.command == BPF_MAP_UPDATE_ELEM || operation.command == BPF_MAP_UPDATE_BATCH;
      if (outcome.error != ENOMEM || !update || tries == 1000) return outcome;
      usleep(100);
    }
  }

  /// A logical number whose map is closed on both sides.
  uint32_t free_number() {
    for (uint32_t i = 0; i < kernel_.maps.size(); ++i) {
      if (kernel_.maps[i] < 0) return i;
    }
    kernel_.maps.push_back(-1);
    skep_.maps.push_back(-1);
    return static_cast<uint32_t>(kernel_.maps.size() - 1);
  }
  void close_map(Generator& generator, uint32_t number) {
    for (Side* side : {&kernel_, &skep_}) {
      close(side->maps[number]);
      side->maps[number] = -1;
    }
    generator.closed(number);
  }
  std::string compare_contents(Generator& generator, uint32_t number) {
    const MapModel& map = generator.maps()[number];
    if ((map.flags & BPF_F_WRONLY) != 0 || !map.is_walked()) return "";
    const uint32_t value_size = generator.user_value_size(map);
    std::string problem;
    const Contents kernel = walk(kernel_, kernel_.maps[number], map.key_size, value_size, problem);
    if (!problem.empty()) return "kernel: " + problem;
    const Contents skep = walk(skep_, skep_.maps[number], map.key_size, value_size, problem);
    if (!problem.empty()) return "skep: " + problem;
    if (kernel != skep) {
      return "contents differ: " + std::to_string(kernel.size()) + " elements, skep has " + std::to_string(skep.size());
    }
    const uint32_t step = 1 + generator.below(30);
    const Contents batched = walk_by_batch(skep_, skep_.maps[number], map, value_size, step, problem);
    if (!problem.empty()) return "skep: " + problem;
    // A batch walk of an array ends with count == remaining or ENOENT; both give all elements.
    if (batched != skep) return "skep: batches and next_key disagree";
    return "";
  }

  Side kernel_{"kernel", kernel_bpf, {}, {}};
  Side skep_{"skep", skep_bpf, {}, {}};
  GuardedArena arena_;
  std::string directory_;
};

TEST_F(OracleTest, RandomOperationsAgree) {
  const uint64_t seed = number_from_environment("SKEP_ORACLE_SEED", static_cast<uint64_t>(time(nullptr)));
  const uint64_t operations = number_from_environment("SKEP_ORACLE_OPS", 200000);
  printf("seed %llu, %llu operations (replay: SKEP_ORACLE_SEED=%llu)\n", static_cast<unsigned long long>(seed),
         static_cast<unsigned long long>(operations), static_cast<unsigned long long>(seed));
  Generator generator(seed, possible_cpus());
  uint64_t failures = 0;
  std::map<int, uint64_t> errors_seen;
  for (uint64_t step = 0; step < operations; ++step) {
    const Operation operation = generator.next();
    const Outcome kernel = ask_kernel(operation);
    const Outcome skep = execute(operation, skep_, arena_);
    ++errors_seen[kernel.error];
    if (const std::string what = difference(operation, kernel, skep); !what.empty()) {
      ADD_FAILURE() << "step " << step << " seed " << seed << "\n    " << operation.describe() << "\n    " << what
                    << "\n    " << skep_last_error();
      if (++failures == 10) break;
    }
    if (operation.returns_descriptor && kernel.result >= 0 && skep.result >= 0) {
      const uint32_t number = free_number();
      kernel_.maps[number] = kernel.result;
      skep_.maps[number] = skep.result;
      generator.created(number);
      // That both could create it is all there is to compare of a huge one.
      if (generator.maps()[number].key_size > 4096 || generator.maps()[number].value_size > 4096) {
        close_map(generator, number);
      }
    } else if (operation.returns_descriptor) {
      if (kernel.result >= 0) close(kernel.result);
      if (skep.result >= 0) close(skep.result);
    }
    const auto numbers = generator.open_maps();
    if (!numbers.empty() && generator.one_in(150)) {
      const uint32_t number = numbers[generator.below(static_cast<uint32_t>(numbers.size()))];
      if (const std::string what = compare_contents(generator, number); !what.empty()) {
        ADD_FAILURE() << "after step " << step << " seed " << seed << ", map " << number << " (type "
                      << generator.maps()[number].type << " key " << generator.maps()[number].key_size << " value "
                      << generator.maps()[number].value_size << " entries " << generator.maps()[number].max_entries
                      << " flags " << generator.maps()[number].flags << "): " << what;
        if (++failures == 10) break;
        close_map(generator, number);
      }
    }
    if (numbers.size() >= 10 && generator.one_in(60)) {
      close_map(generator, numbers[generator.below(static_cast<uint32_t>(numbers.size()))]);
    }
  }
  for (const auto& [error, count] : errors_seen) {
    printf("%10llu x %s\n", static_cast<unsigned long long>(count),
           error == 0                          ? "success"
           : strerrorname_np(error) != nullptr ? strerrorname_np(error)
                                               : "524");
  }
}

}  // namespace
}  // namespace skep::oracle
