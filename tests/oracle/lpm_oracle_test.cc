// SPDX-License-Identifier: Apache-2.0
//
// LPM_TRIE by bpf(2) on the kernel and on skep: the rules of creation, and random operations over tries of several key
// sizes. SKEP_ORACLE_SEED replays a run.
#include <gtest/gtest.h>
#include <skep/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "sample_btf.h"
#include "side.h"

namespace skep::oracle {
namespace {

using Bytes = std::vector<uint8_t>;

/// What a call did: its result, errno, and all that it may have written.
struct Answer {
  int result, error;
  Bytes written;
  bool operator==(const Answer&) const = default;
};

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

class LpmOracleTest : public testing::Test {
 protected:
  /// One instance for all tests: a process opens it once.
  static void SetUpTestSuite() {
    char directory[] = "/dev/shm/skep-oracle-XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    setenv("SKEP_DIR", directory, 1);
  }
  static void TearDownTestSuite() { [[maybe_unused]] const int status = system(("rm -rf " + directory_).c_str()); }
  void SetUp() override {
    if (const std::string reason = kernel_refuses(); !reason.empty()) GTEST_SKIP() << reason;
  }
  void TearDown() override {
    for (const int fd : fds_) close(fd);
  }

  /// Creates on both sides; both fail alike or both succeed. The descriptors go to `trie`, if given, or are closed.
  void create(union bpf_attr attr, const std::string& what, int* trie = nullptr, const int* btf = nullptr) {
    int made[2], errors[2];
    for (int s = 0; s < 2; ++s) {
      attr.map_type = BPF_MAP_TYPE_LPM_TRIE;
      if (btf != nullptr) attr.btf_fd = static_cast<uint32_t>(btf[s]);
      made[s] = sides_[s](BPF_MAP_CREATE, &attr, 72);
      errors[s] = made[s] < 0 ? errno : 0;
      if (trie != nullptr) trie[s] = made[s];
      if (made[s] >= 0 && trie == nullptr) close(made[s]);
      if (made[s] >= 0 && trie != nullptr) fds_.push_back(made[s]);
    }
    EXPECT_EQ(errors[0], errors[1]) << what << " (kernel first)";
  }
  static union bpf_attr shape(uint32_t key, uint32_t value, uint32_t entries, uint32_t flags = BPF_F_NO_PREALLOC) {
    union bpf_attr attr = {};
    attr.key_size = key;
    attr.value_size = value;
    attr.max_entries = entries;
    attr.map_flags = flags;
    return attr;
  }

  const BpfFunction sides_[2] = {kernel_bpf, skep_bpf};
  static inline std::string directory_;
  std::vector<int> fds_;
};

TEST_F(LpmOracleTest, Creation) {
  for (const uint32_t key : {0U, 4U, 5U, 8U, 20U, 260U, 261U}) {
    for (const uint32_t value : {0U, 1U, 4194024U, 4194025U, 4194251U, 4194304U}) {
      create(shape(key, value, 1), "key " + std::to_string(key) + " value " + std::to_string(value));
    }
  }
  for (const uint32_t entries : {0U, 1U, 1U << 31, UINT32_MAX}) {
    create(shape(8, 8, entries), "entries " + std::to_string(entries));
  }
  for (uint32_t bit = 0; bit < 20; ++bit) {
    if (bit == 14 || bit == 15 || bit == 16) continue;  // other descriptors come with these
    create(shape(8, 8, 1, BPF_F_NO_PREALLOC | 1U << bit), "flag " + std::to_string(bit));
    create(shape(8, 8, 1, 1U << bit), "flag alone " + std::to_string(bit));
  }
  create(shape(8, 8, 1, BPF_F_NO_PREALLOC | BPF_F_RDONLY | BPF_F_WRONLY), "both access flags");
  create(shape(8, 8, 1, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG), "both program access flags");
  union bpf_attr extra = shape(8, 8, 1);
  extra.map_extra = 1;
  create(extra, "map_extra");
}

TEST_F(LpmOracleTest, TypesOfKeysAndValues) {
  const auto blob = sample_btf();
  int btf[2];
  for (int s = 0; s < 2; ++s) {
    union bpf_attr attr = {};
    attr.btf = address(blob.data());
    attr.btf_size = static_cast<uint32_t>(blob.size());
    btf[s] = sides_[s](BPF_BTF_LOAD, &attr, sizeof attr);
    ASSERT_GE(btf[s], 0);
    fds_.push_back(btf[s]);
  }
  const uint32_t sizes[kSampleTypeEnd] = {0, 4, 8, 4, 24, 16};
  for (uint32_t key = 0; key < kSampleTypeEnd; ++key) {
    for (uint32_t value = 0; value < kSampleTypeEnd; ++value) {
      for (const uint32_t key_size : {sizes[key], 16U}) {
        union bpf_attr attr = shape(key_size, sizes[value], 4);
        attr.btf_key_type_id = key;
        attr.btf_value_type_id = value;
        create(attr, "key type " + std::to_string(key) + " value type " + std::to_string(value), nullptr, btf);
      }
    }
  }
}

/// One trie on both sides, and what is done to both.
class Pair {
 public:
  Pair(const BpfFunction* sides, const int* fds, uint32_t key_size, uint32_t value_size, uint64_t seed)
      : sides_(sides), fds_{fds[0], fds[1]}, key_size_(key_size), value_size_(value_size), random_(seed) {}

  Bytes key() {
    if (!known_.empty() && random_() % 2 == 0) return known_[random_() % known_.size()];
    Bytes made(key_size_);
    const auto style = random_() % 3;
    for (auto& byte : made) byte = static_cast<uint8_t>(style == 0 ? random_() : random_() % 2);
    if (style == 2) made[4 + random_() % (key_size_ - 4)] = static_cast<uint8_t>(random_());
    const uint32_t bits = 8 * (key_size_ - 4);
    const auto length = static_cast<uint32_t>(random_() % 30 == 0 ? bits + 1 + random_() % 9 : random_() % (bits + 1));
    std::memcpy(made.data(), &length, 4);
    if (known_.size() < 200) {
      known_.push_back(made);
    } else {
      known_[random_() % known_.size()] = made;
    }
    return made;
  }
  Bytes value() {
    Bytes made(value_size_);
    for (auto& byte : made) byte = static_cast<uint8_t>(random_());
    return made;
  }

  /// Runs the call on both sides, each with buffers of its own; whether they agree.
  void both(const std::string& what, const std::function<Answer(BpfFunction bpf, uint32_t fd)>& call) {
    Answer kernel = call(sides_[0], static_cast<uint32_t>(fds_[0]));
    // The kernel's allocator refills in the background and says ENOMEM until it has.
    for (int i = 0; kernel.error == ENOMEM && i < 1000; ++i) {
      usleep(100);
      kernel = call(sides_[0], static_cast<uint32_t>(fds_[0]));
    }
    const Answer skep = call(sides_[1], static_cast<uint32_t>(fds_[1]));
    ASSERT_EQ(kernel.result, skep.result) << what << ": errno " << kernel.error << " and " << skep.error;
    ASSERT_EQ(kernel.error, skep.error) << what;
    ASSERT_TRUE(kernel.written == skep.written) << what << ": other bytes";
  }

  void element(int command, const Bytes* key, const Bytes& buffer, uint64_t flags, const std::string& what) {
    both(what, [&](BpfFunction bpf, uint32_t fd) {
      Bytes out = buffer;
      union bpf_attr attr = {};
      attr.map_fd = fd;
      attr.key = key != nullptr ? address(key->data()) : 0;
      attr.value = address(out.data());
      attr.flags = flags;
      const int result = bpf(command, &attr, 32);
      return Answer{result, result < 0 ? errno : 0, out};
    });
  }
  void batch(int command, const Bytes& keys, const Bytes& values, uint32_t count, const Bytes* cursor,
             uint64_t elem_flags, Bytes* next_cursor) {
    both("batch " + std::to_string(command), [&](BpfFunction bpf, uint32_t fd) {
      Bytes written(8 + key_size_), k = keys, v = values;
      union bpf_attr attr = {};
      attr.batch.map_fd = fd;
      attr.batch.in_batch = cursor != nullptr ? address(cursor->data()) : 0;
      attr.batch.out_batch = address(written.data() + 8);
      attr.batch.keys = address(k.data());
      attr.batch.values = address(v.data());
      attr.batch.count = count;
      attr.batch.elem_flags = elem_flags;
      const int result = bpf(command, &attr, 56);
      const int error = result < 0 ? errno : 0;
      const uint32_t done = attr.batch.count;
      std::memcpy(written.data(), &done, 4);
      if (next_cursor != nullptr) next_cursor->assign(written.begin() + 8, written.end());
      written.insert(written.end(), k.begin(), k.end());
      written.insert(written.end(), v.begin(), v.end());
      return Answer{result, error, written};
    });
  }

  void step() {
    const Bytes one = key();
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2: {
        static constexpr uint64_t kFlags[] = {0, 0, 0, 0, 1, 2, 3, 4, 8, 16, uint64_t{1} << 32};
        const uint64_t flags = kFlags[random_() % std::size(kFlags)];
        element(BPF_MAP_UPDATE_ELEM, &one, value(), flags, "update with " + std::to_string(flags));
        break;
      }
      case 3:
      case 4:
        element(BPF_MAP_LOOKUP_ELEM, &one, value(), random_() % 20 == 0 ? BPF_F_LOCK : 0, "lookup");
        break;
      case 5:
        element(BPF_MAP_DELETE_ELEM, &one, {}, 0, "delete");
        break;
      case 6:
      case 7:
        element(BPF_MAP_GET_NEXT_KEY, random_() % 20 == 0 ? nullptr : &one, Bytes(key_size_), 0, "next_key");
        break;
      case 8:
        element(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &one, value(), 0, "lookup and delete");
        break;
      case 9: {
        const auto count = static_cast<uint32_t>(random_() % 40);
        Bytes cursor;
        batch(BPF_MAP_LOOKUP_BATCH, Bytes(count * key_size_), Bytes(count * value_size_), count,
              random_() % 2 == 0 ? nullptr : &one, 0, &cursor);
        break;
      }
      default: {
        const auto count = static_cast<uint32_t>(random_() % 6);
        Bytes keys, values;
        for (uint32_t i = 0; i < count; ++i) {
          const Bytes k = key(), v = value();
          keys.insert(keys.end(), k.begin(), k.end());
          values.insert(values.end(), v.begin(), v.end());
        }
        static constexpr int kCommands[] = {BPF_MAP_UPDATE_BATCH, BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH,
                                            BPF_MAP_LOOKUP_AND_DELETE_BATCH};
        batch(kCommands[random_() % 4], keys, values, count, nullptr, random_() % 10 == 0 ? random_() % 5 : 0, nullptr);
      }
    }
  }

  /// The whole of both, by next_key from the beginning, in order.
  void walk() {
    Bytes at;
    for (bool first = true;; first = false) {
      Bytes next;
      bool ended = false;
      both("walk", [&](BpfFunction bpf, uint32_t fd) {
        next.assign(key_size_, 0);
        union bpf_attr attr = {};
        attr.map_fd = fd;
        attr.key = first ? 0 : address(at.data());
        attr.next_key = address(next.data());
        const int result = bpf(BPF_MAP_GET_NEXT_KEY, &attr, 32);
        ended = result < 0;
        return Answer{result, result < 0 ? errno : 0, next};
      });
      if (ended || testing::Test::HasFatalFailure()) return;
      at = next;
    }
  }

 private:
  const BpfFunction* sides_;
  const int fds_[2];
  const uint32_t key_size_, value_size_;
  std::mt19937_64 random_;
  std::vector<Bytes> known_;
};

TEST_F(LpmOracleTest, RandomOperationsAgree) {
  const char* text = getenv("SKEP_ORACLE_SEED");
  const uint64_t seed = text != nullptr ? strtoull(text, nullptr, 0) : static_cast<uint64_t>(time(nullptr));
  struct {
    uint32_t key, value, entries;
  } const shapes[] = {{5, 1, 100}, {8, 8, 30}, {8, 8, 1000}, {9, 3, 100}, {20, 8, 100}, {28, 16, 50}, {260, 40, 100}};
  for (const auto& at : shapes) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " key " + std::to_string(at.key));
    int trie[2];
    create(shape(at.key, at.value, at.entries), "a trie", trie);
    ASSERT_GE(trie[1], 0);
    Pair pair(sides_, trie, at.key, at.value, seed);
    for (int i = 0; i < 4000; ++i) {
      pair.step();
      if (i % 1000 == 999) pair.walk();
      if (HasFatalFailure()) FAIL() << "step " << i;
    }
    pair.both("freeze", [](BpfFunction bpf, uint32_t fd) {
      union bpf_attr attr = {};
      attr.map_fd = fd;
      const int result = bpf(BPF_MAP_FREEZE, &attr, sizeof attr);
      return Answer{result, result < 0 ? errno : 0, {}};
    });
    for (int i = 0; i < 200 && !HasFatalFailure(); ++i) pair.step();
    if (HasFatalFailure()) FAIL() << "after the freeze";
  }
}

}  // namespace
}  // namespace skep::oracle
