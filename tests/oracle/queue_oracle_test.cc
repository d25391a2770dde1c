// SPDX-License-Identifier: Apache-2.0
//
// QUEUE, STACK and BLOOM_FILTER, whose operations take no keys: random operations on the kernel and on skep side by
// side, attributes and BTF at creation, and the same programs on both. SKEP_ORACLE_OPS and SKEP_ORACLE_SEED as in
// oracle_test.
#include <gtest/gtest.h>
#include <skep/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "guarded_arena.h"
#include "prog/assembler.h"
#include "sample_btf.h"
#include "side.h"

namespace skep::oracle {
namespace {

uint64_t number_from_environment(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text != nullptr ? strtoull(text, nullptr, 0) : otherwise;
}

/// What a call gave: the result, or -errno, and the bytes of the value afterwards.
struct Answer {
  int result = 0;
  std::vector<uint8_t> value;
  bool operator==(const Answer&) const = default;
  friend void PrintTo(const Answer& answer, std::ostream* out) { *out << answer.result; }
};

class QueueOracleTest : public testing::Test {
 protected:
  // One instance for all tests: a process keeps the one that it opened first.
  static void SetUpTestSuite() {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    setenv("SKEP_DIR", directory_, 1);
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(directory_); }

  void SetUp() override {
    if (const std::string reason = kernel_refuses(); !reason.empty()) GTEST_SKIP() << reason;
    seed_ = number_from_environment("SKEP_ORACLE_SEED", static_cast<uint64_t>(time(nullptr)));
    random_.seed(seed_);
    printf("SKEP_ORACLE_SEED=%llu\n", static_cast<unsigned long long>(seed_));
  }
  void TearDown() override {
    for (const int fd : descriptors_) close(fd);
  }

  static int call(const Side& side, int command, bpf_attr& attr, unsigned size = sizeof(bpf_attr)) {
    const int result = side.bpf(command, &attr, size);
    return result < 0 ? -errno : result;
  }
  /// The map of both sides, or the error that both give; fails the test when they do not agree.
  int create(const bpf_attr& attr, int (&fds)[2], const std::string& what) {
    int results[2];
    for (int i = 0; i < 2; ++i) {
      bpf_attr copy = attr;
      if (attr.btf_fd == kOwnBtf) copy.btf_fd = static_cast<uint32_t>(btf(i));
      results[i] = call(*sides_[i], BPF_MAP_CREATE, copy);
      fds[i] = results[i];
      if (fds[i] >= 0) descriptors_.push_back(fds[i]);
      if (results[i] > 0) results[i] = 0;
    }
    EXPECT_EQ(results[0], results[1]) << what;
    return results[0];
  }
  int btf(int side) {
    if (btfs_[side] < 0) {
      const auto blob = sample_btf();
      bpf_attr attr{};
      attr.btf = reinterpret_cast<uint64_t>(blob.data());
      attr.btf_size = static_cast<uint32_t>(blob.size());
      btfs_[side] = call(*sides_[side], BPF_BTF_LOAD, attr);
      EXPECT_GE(btfs_[side], 0);
      descriptors_.push_back(btfs_[side]);
    }
    return btfs_[side];
  }
  static bpf_attr map_attr(uint32_t type, uint32_t value_size, uint32_t max_entries, uint32_t flags = 0,
                           uint64_t extra = 0) {
    bpf_attr attr{};
    attr.map_type = type;
    attr.value_size = value_size;
    attr.max_entries = max_entries;
    attr.map_flags = flags;
    attr.map_extra = extra;
    return attr;
  }
  Answer element(const Side& side, int command, int fd, uint64_t key, std::vector<uint8_t> value, uint64_t flags,
                 bool bad_value = false) {
    arena_.reset();
    uint8_t* buffer = arena_.allocate(value.size());
    std::memcpy(buffer, value.data(), value.size());
    bpf_attr attr{};
    attr.map_fd = static_cast<uint32_t>(fd);
    attr.key = key == 1 ? arena_.forbidden_address() : key;
    attr.value = bad_value ? arena_.forbidden_address() : reinterpret_cast<uint64_t>(buffer);
    attr.flags = flags;
    Answer answer;
    answer.result = call(side, command, attr, 32);
    answer.value.assign(buffer, buffer + value.size());
    return answer;
  }
  uint64_t below(uint64_t n) { return random_() % n; }
  template <class T>
  T pick(std::initializer_list<T> choices) {
    return *(choices.begin() + below(choices.size()));
  }

  static constexpr uint32_t kOwnBtf = 0xfffffff0;  // stands for the side's own sample BTF
  Side kernel_{"kernel", kernel_bpf, {}, {}};
  Side skep_{"skep", skep_bpf, {}, {}};
  Side* sides_[2] = {&kernel_, &skep_};
  int btfs_[2] = {-1, -1};
  GuardedArena arena_;
  std::vector<int> descriptors_;
  static inline char directory_[] = "/dev/shm/skep-oracle-XXXXXX";
  uint64_t seed_ = 0;
  std::mt19937_64 random_;
};

constexpr uint32_t kTypes[] = {BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK, BPF_MAP_TYPE_BLOOM_FILTER};

TEST_F(QueueOracleTest, CreateAttributes) {
  int fds[2];
  int created = 0, refused = 0;
  const auto compare = [&](const bpf_attr& attr, const std::string& what) {
    (create(attr, fds, what) == 0 ? created : refused)++;
  };
  for (const uint32_t type : kTypes) {
    const std::string name = "type " + std::to_string(type) + " ";
    for (uint32_t bit = 0; bit < 32; ++bit) {
      if (1U << bit == BPF_F_TOKEN_FD) continue;
      compare(map_attr(type, 8, 4, 1U << bit), name + "flag bit " + std::to_string(bit));
    }
    for (const uint32_t flags : {BPF_F_RDONLY | BPF_F_WRONLY, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG}) {
      compare(map_attr(type, 8, 4, flags), name + "both ways");
    }
    for (const uint32_t size : {0U, 1U, 7U, 4U << 20, (4U << 20) + 1, 0x7fffffffU, 0xffffffffU}) {
      compare(map_attr(type, size, 1), name + "value size " + std::to_string(size));
    }
    for (const uint32_t entries : {0U, 1U, 3U, 1000U}) {
      compare(map_attr(type, 8, entries), name + "entries " + std::to_string(entries));
    }
    for (const uint32_t key : {1U, 4U, 8U}) {
      bpf_attr attr = map_attr(type, 8, 4);
      attr.key_size = key;
      compare(attr, name + "key size " + std::to_string(key));
    }
    for (const uint64_t extra : {1ULL, 5ULL, 15ULL, 16ULL, 1ULL << 32, ~0ULL}) {
      compare(map_attr(type, 8, 4, 0, extra), name + "extra " + std::to_string(extra));
    }
    for (uint32_t key = 0; key <= kSampleTypeEnd; ++key) {
      for (uint32_t value = 0; value <= kSampleTypeEnd; ++value) {
        for (const uint32_t size : {4U, 8U, 16U, 24U}) {
          bpf_attr attr = map_attr(type, size, 4);
          attr.btf_fd = kOwnBtf;
          attr.btf_key_type_id = key;
          attr.btf_value_type_id = value;
          compare(attr,
                  name + "BTF " + std::to_string(key) + " " + std::to_string(value) + " size " + std::to_string(size));
        }
      }
    }
    bpf_attr attr = map_attr(type, 8, 4);
    attr.map_ifindex = 1;
    compare(attr, name + "ifindex");
  }
  EXPECT_GT(created, 40);
  EXPECT_GT(refused, 100);
}

// Commands that do not belong to the kinds, wrong pointers and flags, every kind of descriptor, before and after
// freeze.
TEST_F(QueueOracleTest, Misuse) {
  for (const uint32_t type : kTypes) {
    for (const uint32_t flags : {0U, uint32_t{BPF_F_RDONLY}, uint32_t{BPF_F_WRONLY}}) {
      int fds[2];
      ASSERT_EQ(create(map_attr(type, 8, 2, flags), fds, "create"), 0);
      for (const bool frozen : {false, true}) {
        for (const int command : {BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY,
                                  BPF_MAP_LOOKUP_AND_DELETE_ELEM}) {
          for (const uint64_t key : {uint64_t{0}, uint64_t{1}, reinterpret_cast<uint64_t>(this)}) {
            for (const uint64_t element_flags : {0ULL, 1ULL, 2ULL, 3ULL, 4ULL, 6ULL, 32ULL, 1ULL << 32}) {
              for (const bool bad_value : {false, true}) {
                const std::vector<uint8_t> value = {1, 2, 3, 4, 5, 6, 7, 8};
                const Answer kernel = element(kernel_, command, fds[0], key, value, element_flags, bad_value);
                const Answer skep = element(skep_, command, fds[1], key, value, element_flags, bad_value);
                EXPECT_EQ(kernel, skep) << "type " << type << " flags " << flags << " frozen " << frozen << " command "
                                        << command << " key " << key << " element flags " << element_flags
                                        << " bad value " << bad_value << ": " << kernel.result << " / " << skep.result;
              }
            }
          }
        }
        for (const int command :
             {BPF_MAP_LOOKUP_BATCH, BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH, BPF_MAP_LOOKUP_AND_DELETE_BATCH}) {
          int results[2];
          for (int i = 0; i < 2; ++i) {
            uint64_t keys[4] = {}, values[4] = {}, cursor = 0;
            bpf_attr attr{};
            attr.batch.map_fd = static_cast<uint32_t>(fds[i]);
            attr.batch.count = 2;
            attr.batch.out_batch = reinterpret_cast<uint64_t>(&cursor);
            attr.batch.keys = reinterpret_cast<uint64_t>(keys);
            attr.batch.values = reinterpret_cast<uint64_t>(values);
            results[i] = call(*sides_[i], command, attr, 56);
          }
          EXPECT_EQ(results[0], results[1]) << "type " << type << " batch " << command;
        }
        int results[2];
        for (int i = 0; i < 2; ++i) {
          bpf_attr attr{};
          attr.map_fd = static_cast<uint32_t>(fds[i]);
          results[i] = call(*sides_[i], BPF_MAP_FREEZE, attr, 4);
        }
        EXPECT_EQ(results[0], results[1]) << "freeze of type " << type << " flags " << flags;
      }
    }
  }
}

TEST_F(QueueOracleTest, Info) {
  for (const uint32_t type : kTypes) {
    int fds[2];
    ASSERT_EQ(create(map_attr(type, 24, 7, BPF_F_RDONLY_PROG, type == BPF_MAP_TYPE_BLOOM_FILTER ? 3 : 0), fds, ""), 0);
    bpf_map_info infos[2];
    for (int i = 0; i < 2; ++i) {
      std::memset(&infos[i], 0, sizeof infos[i]);
      bpf_attr attr{};
      attr.info.bpf_fd = static_cast<uint32_t>(fds[i]);
      attr.info.info_len = sizeof infos[i];
      attr.info.info = reinterpret_cast<uint64_t>(&infos[i]);
      ASSERT_EQ(call(*sides_[i], BPF_OBJ_GET_INFO_BY_FD, attr, 16), 0);
      infos[i].id = 0;
    }
    EXPECT_EQ(std::memcmp(&infos[0], &infos[1], sizeof infos[0]), 0) << type;
  }
}

// FIFO and LIFO order, capacity, overwriting, and that a buffer is written only where there is something to give.
TEST_F(QueueOracleTest, RandomOperationsAgree) {
  const uint64_t operations = number_from_environment("SKEP_ORACLE_OPS", 200000);
  constexpr uint64_t kPerMap = 2000;
  for (uint64_t done = 0; done < operations; done += kPerMap) {
    const uint32_t type = pick<uint32_t>({BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK});
    const uint32_t size = pick<uint32_t>({1, 2, 3, 4, 5, 8, 8, 12, 16, 24, 100, 1000, 4096, 70000});
    const uint32_t entries = pick<uint32_t>({1, 1, 2, 3, 4, 7, 8, 16, 33});
    int fds[2];
    ASSERT_EQ(create(map_attr(type, size, entries), fds, "create"), 0);
    uint64_t pushes = 5;
    for (uint64_t step = 0; step < kPerMap; ++step) {
      if (step % 100 == 0) pushes = 2 + below(7);
      const int command =
          below(10) < pushes ? BPF_MAP_UPDATE_ELEM : pick<int>({BPF_MAP_LOOKUP_ELEM, BPF_MAP_LOOKUP_AND_DELETE_ELEM});
      const uint64_t flags = command == BPF_MAP_UPDATE_ELEM ? pick<uint64_t>({0, 0, 2}) : 0;
      std::vector<uint8_t> value(size, 0xee);
      if (command == BPF_MAP_UPDATE_ELEM) {
        for (size_t i = 0; i < value.size(); i += value.size() / 64 + 1) value[i] = static_cast<uint8_t>(random_());
      }
      const bool bad_value = below(100) == 0;  // a pop into nowhere loses the value, as on the kernel
      const Answer kernel = element(kernel_, command, fds[0], 0, value, flags, bad_value);
      const Answer skep = element(skep_, command, fds[1], 0, value, flags, bad_value);
      ASSERT_EQ(kernel, skep) << "seed " << seed_ << " type " << type << " size " << size << " entries " << entries
                              << " step " << step << " command " << command << " flags " << flags << ": "
                              << kernel.result << " / " << skep.result;
    }
    for (int i = 0; i < 2; ++i) close(descriptors_.back()), descriptors_.pop_back();
  }
}

// What was pushed is found on both; of what was not, skep finds no more than the kernel.
TEST_F(QueueOracleTest, BloomFiltersAgree) {
  constexpr uint64_t kQuestions = 100000;
  struct Shape {
    uint32_t value_size, entries, extra;
  };
  for (const Shape& shape : {Shape{8, 1000, 0}, Shape{8, 1500, 0}, Shape{4, 700, 3}, Shape{16, 3000, 8},
                             Shape{40, 2000, 1}, Shape{12, 1200, 5}}) {
    int fds[2];
    ASSERT_EQ(create(map_attr(BPF_MAP_TYPE_BLOOM_FILTER, shape.value_size, shape.entries, 0, shape.extra), fds, ""), 0);
    std::vector<uint8_t> value(shape.value_size);
    uint64_t positives[2] = {};
    for (int i = 0; i < 2; ++i) {
      bpf_attr attr{};
      attr.map_fd = static_cast<uint32_t>(fds[i]);
      attr.value = reinterpret_cast<uint64_t>(value.data());
      const auto set = [&](uint32_t number) { std::memcpy(value.data(), &number, sizeof number); };
      for (uint32_t number = 0; number < shape.entries; ++number) {
        set(number);
        ASSERT_EQ(call(*sides_[i], BPF_MAP_UPDATE_ELEM, attr, 32), 0);
      }
      for (uint32_t number = 0; number < shape.entries; ++number) {
        set(number);
        const auto before = value;
        ASSERT_EQ(call(*sides_[i], BPF_MAP_LOOKUP_ELEM, attr, 32), 0);
        ASSERT_EQ(value, before);
      }
      for (uint32_t number = 0; number < kQuestions; ++number) {
        set(0x10000000 + number);
        const int result = call(*sides_[i], BPF_MAP_LOOKUP_ELEM, attr, 32);
        ASSERT_TRUE(result == 0 || result == -ENOENT) << result;
        positives[i] += result == 0;
      }
    }
    printf("value %u, entries %u, extra %u: false positives of %llu: kernel %llu, skep %llu\n", shape.value_size,
           shape.entries, shape.extra, static_cast<unsigned long long>(kQuestions),
           static_cast<unsigned long long>(positives[0]), static_cast<unsigned long long>(positives[1]));
    // Both are counted, and the kernel's hash is seeded anew each time: five standard deviations of the difference.
    const double allowance = 5 * std::sqrt(static_cast<double>(positives[0] + positives[1])) + 20;
    EXPECT_LE(static_cast<double>(positives[1]), static_cast<double>(positives[0]) + allowance);
  }
}

// The same sequence of helper calls in a program here and there: every result and every buffer, folded into R0.
TEST_F(QueueOracleTest, ProgramsAgree) {
  using namespace assembler;
  constexpr int32_t kPush = 87, kPop = 88, kPeek = 89;
  for (int round = 0; round < 300; ++round) {
    const uint32_t type = kTypes[below(3)];
    const bool bloom = type == BPF_MAP_TYPE_BLOOM_FILTER;
    int fds[2];
    ASSERT_EQ(create(map_attr(type, 8, static_cast<uint32_t>(1 + below(4)), bloom ? BPF_F_ZERO_SEED : 0), fds, ""), 0);
    struct Step {
      int32_t helper;
      int32_t value;
      int32_t flags;
    };
    std::vector<Step> steps;
    int32_t pushed = 7;  // what peeks of a filter ask for: of others the answer is not certain
    for (int i = 0; i < 30; ++i) {
      Step step = {.helper = bloom ? pick<int32_t>({kPush, kPeek}) : pick<int32_t>({kPush, kPush, kPop, kPeek}),
                   .value = static_cast<int32_t>(below(50)),
                   .flags = bloom ? pick<int32_t>({0, 0, 1, 2}) : pick<int32_t>({0, 0, 2, 2, 1, 3, 4})};
      if (bloom && step.helper == kPeek) step.value = pushed;
      if (bloom && step.helper == kPush && step.flags == 0) pushed = step.value;
      steps.push_back(step);
    }
    uint32_t values[2];
    for (int i = 0; i < 2; ++i) {
      std::vector<bpf_insn> code = assemble({mov(r6, 0)});
      const auto append = [&](std::initializer_list<Code> more) {
        const auto tail = assemble(more);
        code.insert(code.end(), tail.begin(), tail.end());
      };
      for (const Step& step : steps) {
        append({store(kDw, r10, -8, step.value), load_map(r1, static_cast<uint32_t>(fds[i])), mov(r2, r10), add(r2, -8),
                mov(r3, step.flags), assembler::call(step.helper), alu(kMul, r6, 31), add(r6, r0)});
        append({load(kDw, r1, r10, -8), alu(kMul, r6, 31), add(r6, r1)});
      }
      append({mov(r0, r6), exit_()});
      bpf_attr attr{};
      attr.prog_type = BPF_PROG_TYPE_XDP;
      attr.insns = reinterpret_cast<uint64_t>(code.data());
      attr.insn_cnt = static_cast<uint32_t>(code.size());
      attr.license = reinterpret_cast<uint64_t>("GPL");
      const int program = call(*sides_[i], BPF_PROG_LOAD, attr);
      ASSERT_GE(program, 0) << sides_[i]->name << " " << skep_last_error();
      descriptors_.push_back(program);
      unsigned char packet[64] = {};
      attr = {};
      attr.test.prog_fd = static_cast<uint32_t>(program);
      attr.test.data_in = reinterpret_cast<uint64_t>(packet);
      attr.test.data_size_in = sizeof packet;
      ASSERT_EQ(call(*sides_[i], BPF_PROG_TEST_RUN, attr), 0) << sides_[i]->name << " " << skep_last_error();
      values[i] = attr.test.retval;
    }
    EXPECT_EQ(values[0], values[1]) << "seed " << seed_ << " type " << type << " round " << round;
  }
}

// Sleepable programs may have queues and stacks and no filters.
TEST_F(QueueOracleTest, SleepablePrograms) {
  using namespace assembler;
  for (const uint32_t type : kTypes) {
    int fds[2], results[2];
    ASSERT_EQ(create(map_attr(type, 8, 4), fds, ""), 0);
    for (int i = 0; i < 2; ++i) {
      const auto code = assemble({load_map(r1, static_cast<uint32_t>(fds[i])), mov(r0, 0), exit_()});
      bpf_attr attr{};
      attr.prog_type = BPF_PROG_TYPE_SYSCALL;
      attr.prog_flags = BPF_F_SLEEPABLE;
      attr.insns = reinterpret_cast<uint64_t>(code.data());
      attr.insn_cnt = static_cast<uint32_t>(code.size());
      attr.license = reinterpret_cast<uint64_t>("GPL");
      results[i] = call(*sides_[i], BPF_PROG_LOAD, attr);
      if (results[i] >= 0) descriptors_.push_back(results[i]), results[i] = 0;
    }
    EXPECT_EQ(results[0], results[1]) << type;
  }
}

}  // namespace
}  // namespace skep::oracle
