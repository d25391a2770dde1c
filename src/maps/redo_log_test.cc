// SPDX-License-Identifier: Apache-2.0
#include "maps/redo_log.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace skep {
namespace {

struct Died {};

/// Throws at the n-th step of a write: the state that a process killed there would leave.
struct DyingProbe {
  static constexpr bool kEnabled = true;
  int* countdown;
  void operator()() const {
    if (--*countdown == 0) throw Died{};
  }
};

/// A map of 4 elements of 3 pieces, in private memory.
class RedoLogTest : public ::testing::Test {
 protected:
  static constexpr uint32_t kElements = 4;
  static constexpr uint32_t kPieces = 3;
  static constexpr uint32_t kRoom = 40;

  RedoLog log() { return {record_, reinterpret_cast<std::byte*>(staging_.data()), places_, gaps_}; }

  std::vector<unsigned char> read(const ValueRange& range) {
    std::vector<unsigned char> bytes(uint64_t{range.pieces} * kRoom);
    const auto mark = log().begin_read();
    log().copy(range, mark, bytes.data(), kRoom);
    EXPECT_TRUE(log().validate(mark));
    return bytes;
  }
  static std::vector<unsigned char> filled(unsigned char byte) {
    return std::vector<unsigned char>(kPieces * kRoom, byte);
  }

  std::vector<uint64_t> values_ = std::vector<uint64_t>(kElements * kPieces * kRoom / 8);
  std::vector<uint64_t> staging_ = std::vector<uint64_t>(kPieces * kRoom / 8);
  RedoRecord record_ = {};
  FieldGaps gaps_{ValueFields{}};
  ValuePlaces places_ = {.base = reinterpret_cast<std::byte*>(values_.data()),
                         .elements = kElements,
                         .element_stride = kRoom,
                         .piece_stride = kElements * kRoom,
                         .pieces = kPieces,
                         .piece_room = kRoom};
  const ValueRange whole_ = {.element = 2, .first_piece = 0, .pieces = kPieces, .piece_size = kRoom};
};

TEST_F(RedoLogTest, WritesEveryPieceInItsPlace) {
  std::vector<unsigned char> value(kPieces * kRoom);
  for (size_t i = 0; i < value.size(); ++i) value[i] = static_cast<unsigned char>(i);
  log().write(whole_, value.data(), kRoom);
  EXPECT_EQ(read(whole_), value);
  for (uint32_t piece = 0; piece < kPieces; ++piece) {
    EXPECT_EQ(std::memcmp(places_.at(2, piece), value.data() + piece * kRoom, kRoom), 0);
  }
  EXPECT_EQ(read({1, 0, kPieces, kRoom}), filled(0));
}

TEST_F(RedoLogTest, OneSourceForAllPieces) {
  const auto value = filled(7);
  log().write(whole_, value.data(), 0);
  EXPECT_EQ(read(whole_), value);
}

// O1, O3: wherever a writer dies, readers see the old or the new value, before and after the repair the same one.
TEST_F(RedoLogTest, DeathAtEveryStepLeavesOldOrNew) {
  const auto old_value = filled(0x11);
  const auto new_value = filled(0x22);
  bool finished = false;
  int seen_old = 0;
  int seen_new = 0;
  for (int step = 1; !finished; ++step) {
    ASSERT_LT(step, 100);
    log().write(whole_, old_value.data(), kRoom);
    int countdown = step;
    try {
      log().write(whole_, new_value.data(), kRoom, DyingProbe{&countdown});
      finished = true;
    } catch (const Died&) {
    }
    const auto before = read(whole_);
    EXPECT_TRUE(before == old_value || before == new_value) << "torn at step " << step;
    log().repair();
    EXPECT_EQ(read(whole_), before) << "repair changed the outcome at step " << step;
    EXPECT_FALSE(log().repair());
    (before == old_value ? seen_old : seen_new)++;
  }
  EXPECT_GE(seen_old, 3);
  EXPECT_GE(seen_new, 5);
}

// A reader of one piece, or of all while one is being written, sees the committed bytes of exactly the pieces written.
TEST_F(RedoLogTest, OverlayOfSomePieces) {
  const auto old_value = filled(0x11);
  const auto new_value = filled(0x22);
  log().write(whole_, old_value.data(), kRoom);
  int countdown = 3;  // range, staged, committed
  EXPECT_THROW(log().write({2, 1, 1, 30}, new_value.data(), 0, DyingProbe{&countdown}), Died);
  auto expected = old_value;
  std::memset(expected.data() + kRoom, 0x22, 30);
  EXPECT_EQ(read(whole_), expected);
  EXPECT_EQ(read({2, 0, 1, kRoom})[0], 0x11);
  EXPECT_EQ(read({2, 1, 1, kRoom})[0], 0x22);
  EXPECT_EQ(read({2, 1, 1, kRoom})[30], 0x11);
  EXPECT_EQ(read({3, 1, 1, kRoom})[0], 0);
  EXPECT_TRUE(log().repair());
  EXPECT_EQ(read(whole_), expected);
}

TEST_F(RedoLogTest, ReadAcrossAWriteDoesNotValidate) {
  std::vector<unsigned char> bytes(kPieces * kRoom);
  const auto mark = log().begin_read();
  log().copy(whole_, mark, bytes.data(), kRoom);
  log().write(whole_, filled(3).data(), kRoom);
  EXPECT_FALSE(log().validate(mark));
}

TEST_F(RedoLogTest, AHostileRecordIsDropped) {
  log().write(whole_, filled(5).data(), kRoom);
  record_.sequence.store(record_.sequence.load() + 1);
  record_.element.store(kElements);
  EXPECT_FALSE(log().sound());
  EXPECT_EQ(read(whole_), filled(5));
  EXPECT_FALSE(log().repair());
  record_.sequence.store(record_.sequence.load() + 1);
  record_.element.store(2);
  record_.first_piece.store(UINT32_MAX);
  record_.pieces.store(2);
  EXPECT_FALSE(log().sound());
  EXPECT_FALSE(log().repair());
  EXPECT_EQ(read(whole_), filled(5));
}

TEST_F(RedoLogTest, LocksStayAndOtherFieldsAreZeroed) {
  ValueFields fields;
  fields.spin_lock = 4;
  fields.timer = 16;
  gaps_ = FieldGaps(fields);
  std::memset(places_.at(1, 0), 0xee, kRoom);
  log().write({1, 0, 1, kRoom}, filled(0x33).data(), 0);
  const auto value = read({1, 0, 1, kRoom});
  for (uint32_t i = 0; i < kRoom; ++i) {
    const unsigned char expected = i >= 4 && i < 8 ? 0xee : i >= 16 && i < 32 ? 0 : 0x33;
    EXPECT_EQ(value[i], expected) << i;
  }
}

}  // namespace
}  // namespace skep
