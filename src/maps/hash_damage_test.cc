// SPDX-License-Identifier: Apache-2.0
//
// Copying reads of hash maps whose content no skep wrote (hash_table.h, O5): whatever they answer, they stay inside the
// window and end.
#include <gtest/gtest.h>

#include <functional>

#include "maps/bucket.h"
#include "maps/hash_layout.h"
#include "maps/hash_test_support.h"
#include "maps/slot_journal.h"

namespace skep {
namespace {

using testing::CollectingSink;

class HashDamageTest : public testing::MapTest, public ::testing::WithParamInterface<uint32_t> {
 protected:
  static constexpr uint32_t kEntries = 64;

  void SetUp() override {
    MapTest::SetUp();
    map_ = make(spec(GetParam(), 8, 16, kEntries, GetParam() == BPF_MAP_TYPE_RHASH ? BPF_F_NO_PREALLOC : 0));
    ASSERT_NE(map_, nullptr);
    layout_ = *HashLayout::of(map_->spec(), machine().shape(), GetParam() == BPF_MAP_TYPE_PERCPU_HASH);
    value_.resize(map_->user_value_size());
    const Lease lease(machine());
    for (uint64_t key = 0; key < kEntries; ++key) ASSERT_TRUE(map_->update(lease, &key, value_.data(), 0));
  }
  void TearDown() override {
    map_.reset();
    MapTest::TearDown();
  }

  template <class T>
  T* at(uint64_t offset) {
    return reinterpret_cast<T*>(map_->segments().control.data() + offset);
  }
  Bucket& bucket(uint32_t number) { return at<Bucket>(layout_.bucket_table)[number]; }
  Bucket& overflow(uint32_t number) { return at<Bucket>(layout_.overflow_table)[number - 1]; }
  void each_bucket(const std::function<void(Bucket&)>& damage) {
    for (uint32_t i = 0; i < layout_.buckets; ++i) damage(bucket(i));
  }

  void read_in_every_way() {
    uint8_t found[16];
    std::vector<uint64_t> keys(16);
    std::string values(value_.size() * 16, '\0');
    for (uint64_t key = 0; key < 2 * kEntries; ++key) {
      (void)map_->lookup(&key, value_.data(), 0);
      keys[key % 16] = key;
      if (key % 16 == 15) (void)map_->lookup_many(keys.data(), values.data(), found, 16);
    }
    uint64_t next = 0;
    const void* from = nullptr;
    for (uint32_t i = 0; i < 2 * kEntries && map_->next_key(from, &next); ++i) from = &next;
    CollectingSink sink(8, value_.size());
    uint64_t cursor = 0;
    (void)map_->lookup_batch(nullptr, &cursor, UINT32_MAX, 0, sink);
    for (uint64_t key = 0; key < kEntries; ++key) (void)map_->lookup_batch(&key, &cursor, UINT32_MAX, 0, sink);
  }

  std::unique_ptr<Map> map_;
  HashLayout layout_{};
  std::string value_;
};

TEST_P(HashDamageTest, ElementsThatDoNotExist) {
  for (const uint32_t number : {layout_.elements + 1, Bucket::kLink - 1}) {
    each_bucket([number](Bucket& b) {
      for (auto& slot : b.slots) slot = number;
    });
    read_in_every_way();
  }
}

TEST_P(HashDamageTest, ElementsInEveryChain) {
  uint32_t element = 0;
  for (const int tag : {-1, 0x00, 0x80, 0xff}) {
    each_bucket([&](Bucket& b) {
      for (auto& slot : b.slots) slot = element++ % layout_.elements + 1;
      if (tag < 0) return;
      for (auto& its_tag : b.tags) its_tag = static_cast<uint8_t>(tag);
    });
    read_in_every_way();
  }
}

TEST_P(HashDamageTest, BucketsThatDoNotExist) {
  for (const uint32_t number : {0U, layout_.overflow_buckets + 1, Bucket::kLink - 1}) {
    each_bucket([number](Bucket& b) { b.slots[Bucket::kLinkSlot] = Bucket::kLink | number; });
    read_in_every_way();
  }
}

TEST_P(HashDamageTest, ChainsWithoutEnd) {
  each_bucket([](Bucket& b) { b.slots[Bucket::kLinkSlot] = Bucket::kLink | 1; });
  overflow(1).slots[Bucket::kLinkSlot] = Bucket::kLink | 2;
  overflow(2).slots[Bucket::kLinkSlot] = Bucket::kLink | 1;
  read_in_every_way();
}

TEST_P(HashDamageTest, WritesInPlaceByNobody) {
  for (const uint64_t holder : {uint64_t{0}, uint64_t{1}, Bucket::kHolderMask}) {
    each_bucket([holder](Bucket& b) { b.word = Bucket::kInPlace | holder; });
    auto& journal = *at<SlotJournal>(layout_.journals);
    journal.spare = UINT32_MAX;
    for (uint32_t element = 1; element <= layout_.elements; ++element) {
      journal.in_place = element;
      const uint64_t key = element;
      (void)map_->lookup(&key, value_.data(), 0);
    }
    read_in_every_way();
  }
}

TEST_P(HashDamageTest, ElementsUnderTagsThatAreNotTheirs) {
  for (const int tag : {0x00, 0x80, 0xff}) {
    each_bucket([tag](Bucket& b) {
      for (auto& its_tag : b.tags) its_tag = static_cast<uint8_t>(tag);
    });
    read_in_every_way();
    const Lease lease(machine());
    EXPECT_LE(*map_->for_each(lease, [](const void*, void*) { return Visit::kContinue; }), kEntries);
    CollectingSink sink(8, value_.size());
    uint64_t cursor = 0;
    if (GetParam() == BPF_MAP_TYPE_RHASH) {
      (void)map_->lookup_batch(nullptr, &cursor, UINT32_MAX, 0, sink);
      EXPECT_LE(sink.elements, kEntries);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, HashDamageTest,
                         ::testing::Values(BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_RHASH),
                         [](const auto& kind) {
                           return kind.param == BPF_MAP_TYPE_HASH    ? "Hash"
                                  : kind.param == BPF_MAP_TYPE_RHASH ? "Rhash"
                                                                     : "PerCpu";
                         });

}  // namespace
}  // namespace skep
