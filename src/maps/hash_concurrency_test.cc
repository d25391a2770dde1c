// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <unordered_set>

#include "maps/hash_test_support.h"
#include "memory/test_repeats.h"

namespace skep {
namespace {

using testing::error_of;
using testing::fill_value;
using testing::HashShape;
using testing::key_of;
using testing::name_of;
using testing::value_is_whole;

/// Threads on one map. Keys below `permanent` are replaced all the time and never erased; the others come and go.
class HashThreadsTest : public testing::MapTest, public ::testing::WithParamInterface<HashShape> {
 protected:
  void SetUp() override {
    MapTest::SetUp();
    const HashShape& shape = GetParam();
    map_ = make(spec(shape.type, shape.key_size, shape.value_size, shape.max_entries, shape.flags));
    ASSERT_NE(map_, nullptr);
    value_bytes_ = map_->user_value_size();
    permanent_ = shape.max_entries / 2;
    const Lease lease(machine());
    for (uint64_t k = 0; k < permanent_; ++k) ASSERT_EQ(put(lease, k, 0), 0);
  }

  int put(const Lease& lease, uint64_t k, uint32_t nonce) {
    std::string value(value_bytes_, '\0');
    fill_value(value.data(), value.size(), k, nonce);
    return error_of(map_->update(lease, key(k).data(), value.data(), BPF_ANY));
  }
  std::string key(uint64_t k) const { return key_of(k, GetParam().key_size); }
  uint64_t number_of(const void* k) const {
    uint64_t number = 0;
    std::memcpy(&number, k, std::min<size_t>(8, GetParam().key_size));
    return number;
  }

  void write(uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string value(value_bytes_, '\0');
    for (uint32_t i = 0; !stop_; ++i) {
      const Lease lease(machine());
      const uint64_t coming = permanent_ + random() % (GetParam().max_entries / 2);
      switch (random() % 4) {
        case 0:
          bad_ += put(lease, random() % permanent_, i) != 0;
          break;
        case 1: {
          const int error = put(lease, coming, i);
          bad_ += error != 0 && error != E2BIG;
          break;
        }
        case 2: {
          const int error = error_of(map_->erase(lease, key(coming).data()));
          bad_ += error != 0 && error != ENOENT;
          break;
        }
        default: {
          const int error = error_of(map_->take(lease, key(coming).data(), value.data(), 0));
          bad_ += error != 0 && error != ENOENT;
          if (error == 0) torn_ += !value_is_whole(value.data(), value.size(), coming);
        }
      }
      ++writes_;
    }
  }

  /// Copying lookups, pointer lookups and lookups of several keys: a permanent key must be there, whole.
  void read(uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string value(value_bytes_ * 16, '\0');
    uint8_t found[16];
    while (!stop_) {
      const uint64_t k = random() % permanent_;
      missed_ += error_of(map_->lookup(key(k).data(), value.data(), 0)) != 0;
      torn_ += !value_is_whole(value.data(), value_bytes_, k);
      {
        const Lease lease(machine());
        missed_ += map_->find(lease, key(random() % permanent_).data()) == nullptr;
      }
      const uint64_t coming = permanent_ + random() % (GetParam().max_entries / 2);
      if (map_->lookup(key(coming).data(), value.data(), 0)) {
        torn_ += !value_is_whole(value.data(), value_bytes_, coming);
      }
      std::string keys;
      uint64_t numbers[16];
      for (uint64_t& number : numbers) {
        number = random() % permanent_;
        keys += key(number);
      }
      missed_ += 16 - map_->lookup_many(keys.data(), value.data(), found, 16);
      for (uint64_t i = 0; i < 16; ++i) {
        torn_ += found[i] && !value_is_whole(value.data() + i * value_bytes_, value_bytes_, numbers[i]);
      }
      reads_ += 19;
    }
  }

  struct CountPermanent final : BatchSink {
    explicit CountPermanent(const HashThreadsTest& the_test) : test(the_test) {}
    bool put(const void* keys, const void* values, uint32_t count) override {
      for (uint32_t i = 0; i < count; ++i) {
        const uint64_t k = test.number_of(static_cast<const char*>(keys) + i * test.GetParam().key_size);
        torn += !value_is_whole(static_cast<const char*>(values) + i * test.value_bytes_, test.value_bytes_, k);
        permanent += k < test.permanent_;
      }
      return true;
    }
    const HashThreadsTest& test;
    uint64_t permanent = 0, torn = 0;
  };

  /// Walks in every way: each meets every permanent key once.
  void walk() {
    while (!stop_) {
      CountPermanent sink(*this);
      std::string cursor(map_->batch_cursor_size(), '\0');
      const void* in = nullptr;
      bool lost = false;  // the key that is an RHASH's cursor was erased
      for (BatchResult result{}; result.error != ENOENT && !lost; in = cursor.data()) {
        result = map_->lookup_batch(in, cursor.data(), 64, 0, sink);
        lost = GetParam().resizes() && in != nullptr && result.error == EAGAIN;
        if (!lost && result.error != 0 && result.error != ENOENT) {
          ++bad_;
          break;
        }
      }
      torn_ += sink.torn;
      missed_ += !lost && sink.permanent != permanent_;

      uint64_t visited = 0;
      {
        const Lease lease(machine());
        const auto visits = map_->for_each(lease, [&](const void* k, void*) {
          visited += number_of(k) < permanent_;
          return Visit::kContinue;
        });
        bad_ += !visits;
      }
      missed_ += visited != permanent_;

      uint64_t stepped = 0;
      std::string k = key(0);
      int error = error_of(map_->next_key(nullptr, k.data()));
      std::unordered_set<uint64_t> seen;
      for (; error == 0 && seen.size() < permanent_ * 4; error = error_of(map_->next_key(k.data(), k.data()))) {
        if (number_of(k.data()) < permanent_ && seen.insert(number_of(k.data())).second) ++stepped;
      }
      // An iteration whose current key was erased begins again, so that it may be given up.
      if (error == ENOENT) missed_ += stepped != permanent_;
      ++walks_;
    }
  }

  std::unique_ptr<Map> map_;
  uint64_t value_bytes_ = 0;
  uint64_t permanent_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> bad_ = 0, torn_ = 0, missed_ = 0, reads_ = 0, writes_ = 0, walks_ = 0;
};

TEST_P(HashThreadsTest, NothingIsTornLostOrMissed) {  // hash_table.h, O1, O2, O4
  std::vector<std::thread> threads;
  threads.emplace_back([this] { write(1); });
  threads.emplace_back([this] { write(2); });
  threads.emplace_back([this] { read(3); });
  threads.emplace_back([this] { read(4); });
  threads.emplace_back([this] { walk(); });
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(testing::repeats(600));
  while (std::chrono::steady_clock::now() < until || reads_ < 10'000 || writes_ < 10'000 || walks_ < 2) {
    std::this_thread::yield();
  }
  stop_ = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(bad_, 0U);
  EXPECT_EQ(torn_, 0U);
  EXPECT_EQ(missed_, 0U);
  const CheckReport report = map_->check();
  EXPECT_EQ(report.problem, "");
  std::string value(value_bytes_, '\0');
  for (uint64_t k = 0; k < permanent_; ++k) {
    ASSERT_EQ(error_of(map_->lookup(key(k).data(), value.data(), 0)), 0);
    ASSERT_TRUE(value_is_whole(value.data(), value.size(), k));
  }
  RecordProperty("reads", std::to_string(reads_));
}

TEST_P(HashThreadsTest, EachFreeElementGoesToOneInserter) {
  constexpr int kThreads = 4;
  const uint64_t free = GetParam().max_entries - permanent_;
  for (uint64_t round = 0; round < testing::repeats(20); ++round) {
    std::atomic<uint64_t> inserted = 0, failed = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; i < free; ++i) {
          const Lease lease(machine());
          const int error = put(lease, permanent_ + i * kThreads + static_cast<uint64_t>(t), 1);
          inserted += error == 0;
          failed += error != 0 && error != E2BIG;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    threads.clear();
    ASSERT_EQ(failed, 0U);
    ASSERT_EQ(inserted, free) << "capacity is not exact";
    std::atomic<uint64_t> erased = 0;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (uint64_t i = 0; i < free * kThreads; ++i) {
          const Lease lease(machine());
          erased += error_of(map_->erase(lease, key(permanent_ + i).data())) == 0;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    ASSERT_EQ(erased, free);
    ASSERT_EQ(map_->check().problem, "");
  }
}

class HashBatchThreadsTest : public testing::MapTest {
 protected:
  struct Keys final : BatchSink {
    bool put(const void* keys, const void*, uint32_t count) override {
      for (uint32_t i = 0; i < count; ++i) {
        uint64_t key = 0;
        std::memcpy(&key, static_cast<const char*>(keys) + uint64_t{i} * 8, 8);
        met_twice |= !seen.insert(key).second;
      }
      return true;
    }
    std::unordered_set<uint64_t> seen;
    bool met_twice = false;
  };
};

// Batches too small for a chain go through it by virtual buckets; a key that is inserted meanwhile is in one of those.
TEST_F(HashBatchThreadsTest, NoKeyIsMetTwice) {
  auto map = make(spec(BPF_MAP_TYPE_HASH, 8, 8, 64));
  ASSERT_NE(map, nullptr);
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> writes = 0;
  std::vector<std::thread> writers;
  for (uint64_t t = 0; t < 2; ++t) {
    writers.emplace_back([&, t] {
      std::mt19937_64 random(t);
      for (const uint64_t value = 1; !stop; ++writes) {
        const Lease lease(machine());
        const uint64_t key = random() % 30 * 2 + t;
        if (random() % 2 == 0) {
          (void)map->update(lease, &key, &value, BPF_ANY);
        } else {
          (void)map->erase(lease, &key);
        }
      }
    });
  }
  uint64_t met_twice = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(testing::repeats(1000));
  while (std::chrono::steady_clock::now() < until || writes < 10'000) {
    Keys sink;
    uint32_t cursor = 0;
    const void* in = nullptr;
    for (BatchResult result{}; result.error != ENOENT; in = &cursor) {
      result = map->lookup_batch(in, &cursor, 4, 0, sink);
      if (result.error == ENOSPC) ++cursor;  // a virtual bucket with more than four keys
    }
    met_twice += sink.met_twice;
  }
  stop = true;
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(met_twice, 0U);
}

constexpr uint32_t kHash = BPF_MAP_TYPE_HASH, kPerCpu = BPF_MAP_TYPE_PERCPU_HASH, kGrow = BPF_F_NO_PREALLOC;

INSTANTIATE_TEST_SUITE_P(Shapes, HashThreadsTest,
                         ::testing::Values(HashShape{kHash, 8, 64, 16, 0}, HashShape{kHash, 8, 64, 200, 0},
                                           HashShape{kHash, 4, 16, 1000, kGrow}, HashShape{kHash, 20, 40, 300, 0},
                                           HashShape{kHash, 8, 4096, 60, kGrow}, HashShape{kPerCpu, 8, 16, 100, 0},
                                           HashShape{kPerCpu, 16, 24, 64, kGrow},
                                           HashShape{BPF_MAP_TYPE_RHASH, 8, 64, 200, kGrow}),
                         [](const auto& shape) { return name_of(shape.param); });

}  // namespace
}  // namespace skep
