// SPDX-License-Identifier: Apache-2.0
//
// Copying reads of tries whose content no skep wrote (lpm_trie.h, O5): whatever they answer, they stay inside the
// window and end.

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "maps/lpm_layout.h"
#include "maps/lpm_test_support.h"

namespace skep {
namespace {

using testing::ipv4;

class LpmDamageTest : public testing::MapTest {
 protected:
  static constexpr uint32_t kEntries = 600;

  void SetUp() override {
    MapTest::SetUp();
    map_ = make(spec(BPF_MAP_TYPE_LPM_TRIE, 8, 8, kEntries, BPF_F_NO_PREALLOC));
    ASSERT_NE(map_, nullptr);
    layout_ = LpmLayout::of(map_->spec());
    const Lease lease(machine());
    uint64_t value = 0;
    for (uint32_t i = 0; i < kEntries; ++i, ++value) ASSERT_TRUE(map_->update(lease, key(i).data(), &value, 0)) << i;
    collect(at<LpmControl>(kControlOffset)->top.root);
    ASSERT_GT(nodes_.size(), 20U);
  }
  void TearDown() override {
    map_.reset();
    MapTest::TearDown();
  }

  static std::string key(uint32_t i) {
    const auto high = static_cast<uint8_t>(i), low = static_cast<uint8_t>(i >> 8);
    return ipv4(high, low, static_cast<uint8_t>(i * 7), 0, i % 3 == 0 ? 16 : i % 3 == 1 ? 24 : 19 + i % 5);
  }
  template <class T>
  T* at(uint64_t offset) {
    return reinterpret_cast<T*>(map_->segments().control.data() + offset);
  }
  std::atomic<uint32_t>* words(uint32_t node) {
    const LpmLayout::Pool& pool = layout_.pools[LpmRef::node_class(node) + 1];
    return at<std::atomic<uint32_t>>(pool.units + LpmRef::number(node) * pool.stride);
  }
  void collect(uint32_t ref) {
    if (!LpmRef::is_node(ref) || !nodes_.insert(ref).second) return;
    each_slot_of(ref, [this](std::atomic<uint32_t>& slot) { collect(slot); });
  }
  void each_slot_of(uint32_t node, const std::function<void(std::atomic<uint32_t>&)>& act) {
    for (uint32_t i = 0; i < LpmNode::words(LpmRef::node_class(node)); ++i) {
      if (LpmNode::is_slot(LpmRef::node_class(node), i)) act(words(node)[i]);
    }
  }
  void each_slot(const std::function<void(std::atomic<uint32_t>&)>& damage) {
    for (const uint32_t node : nodes_) each_slot_of(node, damage);
  }
  /// Damages it where `element` has its prefix length.
  void each_length(const std::function<uint32_t(uint32_t element)>& length) {
    const LpmLayout::Pool& pool = layout_.pools[LpmLayout::kElements];
    for (uint32_t i = 0; i < kEntries; ++i) {
      *at<std::atomic<uint32_t>>(pool.units + i * pool.stride + layout_.length_offset) = length(i + 1);
    }
  }

  void read_in_every_way() {
    uint64_t value = 0;
    for (uint32_t i = 0; i < kEntries; ++i) (void)map_->lookup(key(i).data(), &value, 0);
    std::string next(8, '\0'), from;
    for (uint32_t i = 0; i < kEntries && map_->next_key(from.empty() ? nullptr : from.data(), next.data()); ++i) {
      from = next;
    }
    testing::CollectingSink sink(8, 8);
    const BatchResult first = map_->lookup_batch(nullptr, next.data(), 4 * kEntries, 0, sink);
    EXPECT_LE(first.count, 4 * kEntries);
    for (uint32_t i = 0; i < kEntries; i += 50) {
      (void)map_->lookup_batch(key(i).data(), next.data(), 4 * kEntries, 0, sink);
    }
  }

  std::unique_ptr<Map> map_;
  LpmLayout layout_{};
  std::set<uint32_t> nodes_;
};

TEST_F(LpmDamageTest, ReferencesToWhatDoesNotExist) {
  for (const uint32_t ref : {layout_.pools[LpmLayout::kElements].capacity + 1, LpmRef::kNode - 1, UINT32_MAX,
                             LpmRef::node(0, LpmRef::kNumberMask), LpmRef::node(7, 0)}) {
    each_slot([ref](auto& slot) { slot = ref; });
    read_in_every_way();
  }
}

TEST_F(LpmDamageTest, NodesBelowThemselves) {
  for (const uint32_t node : nodes_) {
    each_slot_of(node, [node](auto& slot) { slot = node; });
  }
  read_in_every_way();
}

TEST_F(LpmDamageTest, ElementsInEverySlot) {
  uint32_t element = 0;
  each_slot([&](auto& slot) { slot = element++ % kEntries + 1; });
  read_in_every_way();
  each_slot([](auto& slot) { slot = 1; });
  read_in_every_way();
}

TEST_F(LpmDamageTest, LengthsThatNoKeyHas) {
  for (const uint32_t length : {33U, 2049U, UINT32_MAX}) {
    each_length([length](uint32_t) { return length; });
    read_in_every_way();
  }
  for (const uint32_t other : {0U, 32U}) {
    each_length([other](uint32_t element) { return element % 2 == 0 ? other : 40; });
    read_in_every_way();
  }
}

TEST_F(LpmDamageTest, PositionsThatNoNodeHas) {
  for (const uint32_t position : {0U, 1U, 31U, 32U, 2048U, UINT32_MAX}) {
    for (const uint32_t node : nodes_) words(node)[LpmNode::kPosition] = position;
    read_in_every_way();
  }
}

TEST_F(LpmDamageTest, ValuesReplacedInPlaceByNobody) {
  auto& redo = at<LpmControl>(kControlOffset)->top.redo;
  for (const uint32_t anything : {0U, 1U, 8U, 64U, UINT32_MAX}) {
    redo.element = redo.first_piece = redo.pieces = redo.piece_size = anything;
    redo.sequence = redo.sequence | 1;
    read_in_every_way();
  }
}

}  // namespace
}  // namespace skep
