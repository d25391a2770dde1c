// SPDX-License-Identifier: Apache-2.0
//
// Readers and writers of one trie in threads; values say which prefix they belong to and whether they are whole.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "maps/lpm_test_support.h"
#include "memory/test_repeats.h"

namespace skep {
namespace {

using testing::error_of;
using testing::fill_value;
using testing::ipv4;
using testing::value_is_whole;

class LpmThreadsTest : public testing::MapTest {
 protected:
  static constexpr uint32_t kValue = 40;
  static constexpr uint32_t kStable = 64;

  void SetUp() override {
    MapTest::SetUp();
    map_ = make(spec(BPF_MAP_TYPE_LPM_TRIE, 8, kValue, 5000, BPF_F_NO_PREALLOC));
    ASSERT_NE(map_, nullptr);
    for (uint32_t i = 0; i < kStable; ++i) ASSERT_EQ(put(stable(i), number_of(stable(i)), 1), 0);
  }
  void TearDown() override {
    map_.reset();
    MapTest::TearDown();
  }

  /// Prefixes that never go: each is the longest that matches its own host .3.
  static std::string stable(uint32_t i) { return ipv4(10, static_cast<uint8_t>(i * 4), 0, 0, 16 + i % 9); }
  /// Prefixes that come and go: above, between and beside them.
  static std::string passing(uint64_t random) {
    const auto length = static_cast<uint32_t>(8 + random % 25);
    std::string key = ipv4(10, static_cast<uint8_t>(random >> 8 | 1), static_cast<uint8_t>(random >> 16),
                           static_cast<uint8_t>(random >> 24), length);
    if (length <= 15) key[5] = static_cast<char>(static_cast<uint8_t>(random >> 8) & 0xfc);  // above stable ones too
    return key;
  }
  static uint64_t number_of(const std::string& key) {
    uint64_t number = 1;
    for (const char bit : testing::bits_of_key(key)) number = 2 * number + (bit == '1');
    return number;
  }
  int put(const std::string& key, uint64_t number, uint32_t nonce) {
    char value[kValue];
    fill_value(value, kValue, number, nonce);
    const Lease lease(machine());
    return error_of(map_->update(lease, key.data(), value, BPF_ANY));
  }
  static uint64_t number_in(const void* value) {
    uint64_t head;
    std::memcpy(&head, value, 8);
    return head >> 24;
  }

  std::unique_ptr<Map> map_;
};

TEST_F(LpmThreadsTest, StablePrefixesAreAlwaysFound) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> bad{0}, missed{0}, torn{0}, lookups{0}, skipped{0};
  std::vector<std::thread> threads;
  for (uint64_t writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&, writer] {
      std::mt19937_64 random(writer + 1);
      while (!stop) {
        const std::string key = passing(random());
        if (random() % 3 != 0) {
          const int error = put(key, number_of(key), static_cast<uint32_t>(random()));
          bad += error != 0 && error != ENOSPC;
        } else {
          const Lease lease(machine());
          const int error = error_of(map_->erase(lease, key.data()));
          bad += error != 0 && error != ENOENT;
        }
        const auto i = static_cast<uint32_t>(random() % kStable);
        if (random() % 8 == 0) bad += put(stable(i), number_of(stable(i)), static_cast<uint32_t>(random())) != 0;
      }
    });
  }
  for (uint64_t reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&, reader] {
      std::mt19937_64 random(reader + 100);
      while (!stop) {
        const auto i = static_cast<uint32_t>(random() % kStable);
        const std::string prefix = stable(i);
        char value[kValue];
        std::string host = prefix;
        host[7] = 3;
        std::memcpy(host.data(), "\x20\0\0", 4);
        const bool copying = random() % 2 == 0;
        const Lease lease(machine());
        if (copying) {
          missed += error_of(map_->lookup(host.data(), value, 0)) != 0;
        } else {
          const void* found = map_->find(lease, host.data());
          missed += found == nullptr;
          if (found != nullptr) std::memcpy(value, found, kValue);
        }
        const uint64_t number = number_in(value);
        torn += !value_is_whole(value, kValue, number);
        // The stable prefix, or one below it that came meanwhile: never one above.
        const uint64_t own = number_of(prefix);
        missed += std::bit_width(number) < std::bit_width(own) ||
                  number >> (std::bit_width(number) - std::bit_width(own)) != own;
        ++lookups;
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop) {
      std::string key(8, '\0'), next(8, '\0');
      uint32_t met = 0;
      std::string last;
      bool restarted = false;
      for (const void* from = nullptr; error_of(map_->next_key(from, next.data())) == 0; from = key.data()) {
        const std::string place = testing::LpmModel::place(next);
        if (!last.empty() && place <= last) {  // the prefix that it stood on went: from the beginning, as in the kernel
          restarted = true;
          break;
        }
        last = place;
        key = next;
        for (uint32_t i = 0; i < kStable; ++i) met += testing::LpmModel::place(stable(i)) == place;
      }
      skipped += !restarted && met != kStable;
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(testing::repeats(1500)));
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(bad, 0U);
  EXPECT_EQ(missed, 0U);
  EXPECT_EQ(torn, 0U);
  EXPECT_EQ(skipped, 0U);
  EXPECT_GT(lookups, 1000U);
  EXPECT_EQ(map_->check().problem, "");
}

/// A node whose items are replaced one after the other in front of a walk hides nothing that stands behind it.
TEST_F(LpmThreadsTest, AWalkReachesWhatStaysBehindANodeThatChanges) {
  auto map = make(spec(BPF_MAP_TYPE_LPM_TRIE, 8, 8, 1000, BPF_F_NO_PREALLOC));
  const auto change = [&](const std::string& key, bool there) {
    const Lease lease(machine());
    const uint64_t value = 1;
    return error_of(there ? map->update(lease, key.data(), &value, BPF_ANY) : map->erase(lease, key.data()));
  };
  const auto net = [](uint32_t i) { return ipv4(10, 0, static_cast<uint8_t>(i), 0, 24); };
  const std::string last = ipv4(11, 0, 0, 0, 24);
  ASSERT_EQ(change(last, true), 0);
  for (uint32_t i = 0; i < 256; ++i) ASSERT_EQ(change(net(i), true), 0);  // a wide node, which stays one
  for (uint32_t i = 0; i < 254; ++i) ASSERT_EQ(change(net(i), false), 0);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> bad{0};
  std::thread writer([&] {
    for (uint32_t from = 254, to = 0; !stop; std::swap(from, to)) {
      for (uint32_t i = 0; i < 2; ++i) bad += change(net(to + i), true) != 0;
      for (uint32_t i = 0; i < 2; ++i) bad += change(net(from + i), false) != 0;
    }
  });
  std::string key(8, '\0'), next(8, '\0');
  for (uint64_t walks = 0; walks < testing::repeats(100'000); ++walks) {
    bool reached = error_of(map->next_key(nullptr, next.data())) == 0 && next == last;
    for (int steps = 0; !reached && steps < 1000; ++steps) {  // from the beginning again where its prefix has gone
      key = next;
      if (error_of(map->next_key(key.data(), next.data())) != 0) break;
      reached = next == last;
    }
    if (!reached) ++bad;
  }
  stop = true;
  writer.join();
  EXPECT_EQ(bad, 0U);
}

/// Values that are replaced in place, since all memory waits for a reader, are not torn either.
TEST_F(LpmThreadsTest, ReplacingWithoutMemoryIsNotTorn) {
  constexpr uint32_t kLarge = 1 << 20;
  auto map = make(spec(BPF_MAP_TYPE_LPM_TRIE, 8, kLarge, 1, BPF_F_NO_PREALLOC));
  const std::string key = ipv4(10, 0, 0, 0, 8);
  std::atomic<bool> stop{false}, started{false};
  std::atomic<uint64_t> torn{0}, reads{0};
  std::thread reader([&] {
    std::string value(kLarge, '\0');
    while (!stop) {
      if (error_of(map->lookup(key.data(), value.data(), 0)) != 0) continue;
      started = true;
      torn += value.find_first_not_of(value[0]) != std::string::npos;
      ++reads;
    }
  });
  {
    const Lease lease(machine());  // nothing that is retired comes back
    for (int i = 0; i < 400 || !started; ++i) {
      const std::string value(kLarge, static_cast<char>('a' + i % 26));
      ASSERT_EQ(error_of(map->update(lease, key.data(), value.data(), BPF_ANY)), 0) << i;
    }
    const std::string other = ipv4(11, 0, 0, 0, 8), value(kLarge, 'x');
    EXPECT_EQ(error_of(map->update(lease, other.data(), value.data(), BPF_ANY)), ENOSPC);
    EXPECT_EQ(error_of(map->erase(lease, key.data())), 0);
    EXPECT_EQ(error_of(map->update(lease, other.data(), value.data(), BPF_ANY)), ENOMEM);
  }
  stop = true;
  reader.join();
  EXPECT_EQ(torn, 0U);
  EXPECT_GT(reads, 0U);
  EXPECT_EQ(map->check().problem, "");
}

}  // namespace
}  // namespace skep
