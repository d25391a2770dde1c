// SPDX-License-Identifier: Apache-2.0
//
// LRU_HASH and LRU_PERCPU_HASH on the kernel and on skep side by side. While a map is far from full every answer must
// be the same. Which keys go when it is full is each side's own affair: there errnos, sizes, values of keys that both
// have and bounds are compared. SKEP_ORACLE_SEED replays a run.
#include <gtest/gtest.h>
#include <skep/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "side.h"

namespace skep::oracle {
namespace {

struct Answer {
  int result = 0;  // or -errno
  std::vector<uint8_t> bytes;
  bool operator==(const Answer&) const = default;
};

class LruOracleTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    setenv("SKEP_DIR", directory_, 1);
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(directory_); }
  void SetUp() override {
    if (const std::string reason = kernel_refuses(); !reason.empty()) GTEST_SKIP() << reason;
    const char* text = getenv("SKEP_ORACLE_SEED");
    const uint64_t seed = text != nullptr ? strtoull(text, nullptr, 0) : static_cast<uint64_t>(time(nullptr));
    random_.seed(seed);
    printf("SKEP_ORACLE_SEED=%llu\n", static_cast<unsigned long long>(seed));
  }
  void TearDown() override { close_maps(); }
  void close_maps() {
    for (int& fd : maps_) {
      if (fd >= 0) close(fd);
      fd = -1;
    }
  }

  /// What both sides answer to BPF_MAP_CREATE: 0 or -errno.
  int create(uint32_t type, uint32_t key, uint32_t value, uint32_t entries, uint32_t flags, uint32_t node = 0) {
    close_maps();
    int results[2];
    for (int i = 0; i < 2; ++i) {
      union bpf_attr attr = {};
      attr.map_type = type;
      attr.key_size = key;
      attr.value_size = value;
      attr.max_entries = entries;
      attr.map_flags = flags;
      attr.numa_node = node;
      maps_[i] = sides_[i]->bpf(BPF_MAP_CREATE, &attr, 72);
      results[i] = maps_[i] < 0 ? -errno : 0;
    }
    EXPECT_EQ(results[0], results[1]) << "type " << type << " key " << key << " value " << value << " entries "
                                      << entries << " flags " << flags;
    const bool per_cpu = type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
    value_bytes_ = per_cpu ? (value + 7) / 8 * 8 * cpus() : value;
    key_bytes_ = key;
    if (results[0] == 0 && results[1] == 0) {
      EXPECT_EQ(info(0).max_entries, info(1).max_entries);
      EXPECT_EQ(info(0).map_flags, info(1).map_flags);
    }
    return results[0] != 0 ? results[0] : results[1];
  }
  static uint32_t cpus() { return static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_CONF)); }
  bpf_map_info info(int side) {
    bpf_map_info info = {};
    union bpf_attr attr = {};
    attr.info.bpf_fd = static_cast<uint32_t>(maps_[side]);
    attr.info.info_len = sizeof info;
    attr.info.info = reinterpret_cast<uint64_t>(&info);
    EXPECT_EQ(sides_[side]->bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, 16), 0);
    return info;
  }

  Answer element(int side, int command, uint64_t key, uint64_t flags = 0, uint32_t stamp = 0) {
    std::vector<uint8_t> key_bytes(key_bytes_), value(value_bytes_);
    std::memcpy(key_bytes.data(), &key, std::min<size_t>(8, key_bytes_));
    for (size_t i = 0; i < value.size(); ++i) value[i] = static_cast<uint8_t>(stamp + i * (key + 1));
    union bpf_attr attr = {};
    attr.map_fd = static_cast<uint32_t>(maps_[side]);
    attr.key = reinterpret_cast<uint64_t>(key_bytes.data());
    if (command != BPF_MAP_DELETE_ELEM) attr.value = reinterpret_cast<uint64_t>(value.data());
    attr.flags = flags;
    const int result = sides_[side]->bpf(command, &attr, 32);
    return {result < 0 ? -errno : result, std::move(value)};
  }
  void agree(int command, uint64_t key, uint64_t flags = 0, uint32_t stamp = 0) {
    const Answer kernel = element(0, command, key, flags, stamp), skep = element(1, command, key, flags, stamp);
    ASSERT_EQ(kernel.result, skep.result) << "command " << command << " key " << key << " flags " << flags;
    ASSERT_EQ(kernel.bytes, skep.bytes) << "command " << command << " key " << key;
  }

  /// Keys and values by one batch of a command that reads; `error` is what ended it.
  std::map<std::vector<uint8_t>, std::vector<uint8_t>> batch(int side, int command, uint32_t count, int& error) {
    std::vector<uint8_t> keys(size_t{count} * key_bytes_), values(size_t{count} * value_bytes_);
    uint32_t cursor = 0;
    union bpf_attr attr = {};
    attr.batch.out_batch = reinterpret_cast<uint64_t>(&cursor);
    attr.batch.keys = reinterpret_cast<uint64_t>(keys.data());
    attr.batch.values = reinterpret_cast<uint64_t>(values.data());
    attr.batch.count = count;
    attr.batch.map_fd = static_cast<uint32_t>(maps_[side]);
    error = sides_[side]->bpf(command, &attr, 56) < 0 ? errno : 0;
    std::map<std::vector<uint8_t>, std::vector<uint8_t>> found;
    for (uint32_t i = 0; i < attr.batch.count; ++i) {
      const auto* key = keys.data() + size_t{i} * key_bytes_;
      const auto* value = values.data() + size_t{i} * value_bytes_;
      EXPECT_TRUE(found.try_emplace({key, key + key_bytes_}, value, value + value_bytes_).second) << "a key twice";
    }
    return found;
  }
  void agree_on_batch(int command, uint32_t count) {
    int errors[2];
    const auto kernel = batch(0, command, count, errors[0]), skep = batch(1, command, count, errors[1]);
    ASSERT_EQ(errors[0], errors[1]);
    ASSERT_EQ(kernel, skep);
  }
  void agree_on_change(int command, uint32_t first, uint32_t count, uint64_t elem_flags) {
    uint32_t done[2];
    int errors[2];
    for (int i = 0; i < 2; ++i) {
      std::vector<uint8_t> keys(size_t{count} * key_bytes_), values(size_t{count} * value_bytes_, 0x31);
      for (uint32_t k = 0; k < count; ++k) {
        const uint64_t key = first + k;
        std::memcpy(keys.data() + size_t{k} * key_bytes_, &key, std::min<size_t>(8, key_bytes_));
      }
      union bpf_attr attr = {};
      attr.batch.keys = reinterpret_cast<uint64_t>(keys.data());
      attr.batch.values = reinterpret_cast<uint64_t>(values.data());
      attr.batch.count = count;
      attr.batch.elem_flags = elem_flags;
      attr.batch.map_fd = static_cast<uint32_t>(maps_[i]);
      errors[i] = sides_[i]->bpf(command, &attr, 56) < 0 ? errno : 0;
      done[i] = attr.batch.count;
    }
    ASSERT_EQ(errors[0], errors[1]) << command;
    ASSERT_EQ(done[0], done[1]) << command;
  }

  uint64_t below(uint64_t n) { return random_() % n; }

  static inline char directory_[] = "/dev/shm/skep-lru-oracle-XXXXXX";
  Side kernel_{"kernel", kernel_bpf, {}, {}};
  Side skep_{"skep", skep_bpf, {}, {}};
  Side* sides_[2] = {&kernel_, &skep_};
  int maps_[2] = {-1, -1};
  uint32_t key_bytes_ = 0, value_bytes_ = 0;
  std::mt19937_64 random_;
};

constexpr uint32_t kTypes[] = {BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH};

TEST_F(LruOracleTest, CreationIsCheckedAlike) {
  for (const uint32_t type : kTypes) {
    for (uint32_t bit = 0; bit < 20; ++bit) {
      create(type, 4, 8, 10, 1U << bit);
      create(type, 4, 8, 10, 1U << bit | BPF_F_NO_COMMON_LRU);
      create(type, 4, 8, 10, 1U << bit | BPF_F_NO_PREALLOC);
    }
    create(type, 4, 8, 10, BPF_F_NUMA_NODE, 0xffffffff);
    create(type, 4, 8, 10, BPF_F_NUMA_NODE | BPF_F_NO_COMMON_LRU, 0xffffffff);
    create(type, 4, 8, 10, BPF_F_NUMA_NODE, 77);
    create(type, 4, 8, 10, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG);
    for (const uint32_t flags : {0U, uint32_t{BPF_F_NO_COMMON_LRU}}) {
      for (const uint32_t entries : {0U, 1U, 2U, 3U, 5U, 100U, 1001U, 0x80000000U, 0x80000001U, 0xffffffffU}) {
        create(type, 4, 8, entries, flags);
      }
      for (const uint32_t value : {0U, 1U, 32768U, 32769U, 4U << 20, 0xffffffffU}) create(type, 4, value, 2, flags);
      for (const uint32_t key : {0U, 1U, 512U, 4096U}) create(type, key, 8, 2, flags);
    }
  }
  create(BPF_MAP_TYPE_HASH, 4, 8, 10, BPF_F_NO_COMMON_LRU);
}

TEST_F(LruOracleTest, FarFromFullEveryAnswerIsTheSame) {
  for (const uint32_t type : kTypes) {
    for (const uint32_t flags : {0U, uint32_t{BPF_F_NO_COMMON_LRU}}) {
      ASSERT_EQ(
          create(type, 4 + 4 * static_cast<uint32_t>(below(4)), 1 + static_cast<uint32_t>(below(30)), 8192, flags), 0);
      for (int i = 0; i < 3000; ++i) {
        const uint64_t key = below(60);
        switch (below(9)) {
          case 0:
            agree(BPF_MAP_DELETE_ELEM, key);
            break;
          case 1:
            agree(BPF_MAP_LOOKUP_AND_DELETE_ELEM, key);
            break;
          case 2:
            agree(BPF_MAP_LOOKUP_AND_DELETE_ELEM, key, BPF_F_LOCK);
            break;
          case 3:
          case 4:
            agree(BPF_MAP_LOOKUP_ELEM, key, below(20) == 0 ? BPF_F_LOCK : 0);
            break;
          case 5:
            if (below(10) == 0) {
              agree_on_batch(below(3) == 0 ? BPF_MAP_LOOKUP_AND_DELETE_BATCH : BPF_MAP_LOOKUP_BATCH, 70);
            }
            break;
          case 6:
            if (below(10) == 0) {
              agree_on_change(below(2) == 0 ? BPF_MAP_UPDATE_BATCH : BPF_MAP_DELETE_BATCH,
                              static_cast<uint32_t>(below(40)), static_cast<uint32_t>(below(10)),
                              below(6) == 0 ? below(5) : 0);
            }
            break;
          default:
            agree(BPF_MAP_UPDATE_ELEM, key, below(15) == 0 ? 3 + below(3) : below(3), static_cast<uint32_t>(i));
        }
        if (HasFatalFailure()) return;
      }
      for (int side = 0; side < 2; ++side) {
        union bpf_attr attr = {};
        attr.map_fd = static_cast<uint32_t>(maps_[side]);
        ASSERT_EQ(sides_[side]->bpf(BPF_MAP_FREEZE, &attr, 4), 0);
      }
      agree(BPF_MAP_UPDATE_ELEM, 1);
      agree(BPF_MAP_DELETE_ELEM, 1);
      agree(BPF_MAP_LOOKUP_AND_DELETE_ELEM, 1);
      agree(BPF_MAP_LOOKUP_ELEM, 1);
    }
  }
}

TEST_F(LruOracleTest, FullMapsAgreeOnWhatBothHave) {
  for (const uint32_t type : kTypes) {
    for (const uint32_t flags : {0U, uint32_t{BPF_F_NO_COMMON_LRU}}) {
      for (const uint32_t entries : {1U, 8U, 100U, 1024U}) {
        ASSERT_EQ(create(type, 8, 16, entries, flags), 0);
        const uint32_t capacity = info(1).max_entries;
        for (uint64_t i = 0; i < 4 * entries + 100; ++i) {
          const uint64_t key = below(3 * entries);
          for (int side = 0; side < 2; ++side) {
            ASSERT_EQ(element(side, BPF_MAP_UPDATE_ELEM, key, BPF_ANY, static_cast<uint32_t>(key)).result, 0);
            // To refuse a key that is there the kernel makes room first, and may remove that very key.
            const int again = element(side, BPF_MAP_UPDATE_ELEM, key, BPF_NOEXIST, static_cast<uint32_t>(key)).result;
            ASSERT_TRUE(again == -EEXIST || (side == 0 && again == 0)) << again;
            ASSERT_EQ(element(side, BPF_MAP_LOOKUP_ELEM, key).result, 0);
          }
        }
        uint64_t present[2] = {};
        for (uint64_t key = 0; key < 3 * entries; ++key) {
          const Answer kernel = element(0, BPF_MAP_LOOKUP_ELEM, key), skep = element(1, BPF_MAP_LOOKUP_ELEM, key);
          present[0] += kernel.result == 0;
          present[1] += skep.result == 0;
          if (kernel.result == 0 && skep.result == 0) {
            ASSERT_EQ(kernel.bytes, skep.bytes) << key;
          }
        }
        EXPECT_LE(present[0], capacity);
        EXPECT_LE(present[1], capacity);
        EXPECT_GE(present[1], present[0]) << "the kernel keeps more of " << entries << " entries, flags " << flags;
      }
    }
  }
}

}  // namespace
}  // namespace skep::oracle
