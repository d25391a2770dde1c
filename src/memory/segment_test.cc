// SPDX-License-Identifier: Apache-2.0
#include "memory/segment.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <utility>

#include "memory/file_header.h"
#include "memory/file_space.h"
#include "memory/populate.h"
#include "memory/test_directory.h"

namespace skep {
namespace {

class SegmentTest : public testing::Test {
 protected:
  ~SegmentTest() override { close(fd_); }

  [[nodiscard]] uint64_t blocks_in_pages() const {
    struct stat status;
    fstat(fd_, &status);
    return static_cast<uint64_t>(status.st_blocks) * 512 / kPageSize;
  }
  void resize(uint64_t size) const { ASSERT_TRUE(size_file(fd_, size)); }

  TestDirectory directory_;
  int fd_ = directory_.make_file();
};

TEST_F(SegmentTest, MapsWhatTheFileHas) {
  resize(4 * kPageSize);
  auto window = Segment::map(fd_, kPageSize, 2 * kPageSize, Access::kReadWrite);
  ASSERT_TRUE(window);
  EXPECT_EQ(window->size(), 2 * kPageSize);
  EXPECT_TRUE(window->writable());
  std::memcpy(window->data(), "bees", 4);
  char read_back[4];
  ASSERT_EQ(pread(fd_, read_back, 4, kPageSize), 4);
  EXPECT_EQ(std::memcmp(read_back, "bees", 4), 0);
}

TEST_F(SegmentTest, RefusesWindowsPastTheEnd) {
  resize(4 * kPageSize);
  for (const auto& [offset, length] : {std::pair{uint64_t{0}, 4 * kPageSize + 1},
                                       {4 * kPageSize, kPageSize},
                                       {kHeaderOffset, kPageSize},
                                       {kPageSize, UINT64_MAX - 100},
                                       {UINT64_MAX - kPageSize + 1, kPageSize},
                                       {100, kPageSize},
                                       {0, 0}}) {
    clear_last_error();
    auto window = Segment::map(fd_, offset, length, Access::kReadOnly);
    ASSERT_FALSE(window) << offset << " " << length;
    EXPECT_EQ(to_int(window.error()), EINVAL);
    EXPECT_STRNE(last_error_sentence(), "");
  }
}

TEST_F(SegmentTest, RefusesWhatIsNoFile) {
  auto window = Segment::map(directory_.fd(), 0, kPageSize, Access::kReadOnly);
  ASSERT_FALSE(window);
  EXPECT_EQ(to_int(window.error()), EINVAL);
  auto closed = Segment::map(-1, 0, kPageSize, Access::kReadOnly);
  ASSERT_FALSE(closed);
  EXPECT_EQ(to_int(closed.error()), EBADF);
}

TEST_F(SegmentTest, LastPartialPageIsMapped) {
  resize(kPageSize + 10);
  auto window = Segment::map(fd_, 0, kPageSize + 10, Access::kReadOnly);
  ASSERT_TRUE(window);
  EXPECT_EQ(window->size(), 2 * kPageSize);
  EXPECT_EQ(static_cast<int>(window->data()[2 * kPageSize - 1]), 0);
}

TEST_F(SegmentTest, ReadOnlyWindowNeedsNoWriteAccess) {
  resize(kPageSize);
  const std::string path = "/proc/self/fd/" + std::to_string(fd_);
  const int read_only = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_FALSE(Segment::map(read_only, 0, kPageSize, Access::kReadWrite));
  auto window = Segment::map(read_only, 0, kPageSize, Access::kReadOnly);
  close(read_only);
  ASSERT_TRUE(window);
  EXPECT_FALSE(window->writable());
  EXPECT_EQ(to_int(window->reserve(0, kPageSize).error()), EINVAL);
  window->give_back(0, kPageSize);
  ASSERT_EQ(pwrite(fd_, "x", 1, 0), 1);
  EXPECT_EQ(static_cast<char>(window->data()[0]), 'x');
}

TEST_F(SegmentTest, WindowOutlivesTheDescriptorAndMoves) {
  resize(kPageSize);
  const int other = dup(fd_);
  auto window = Segment::map(other, 0, kPageSize, Access::kReadWrite);
  close(other);
  ASSERT_TRUE(window);
  std::byte* const data = window->data();
  Segment moved = std::move(*window);
  EXPECT_EQ(moved.data(), data);
  EXPECT_EQ(window->data(), nullptr);
  Segment assigned;
  assigned = std::move(moved);
  EXPECT_EQ(assigned.data(), data);
  assigned.data()[0] = std::byte{1};
}

TEST_F(SegmentTest, ReserveMakesPagesAndKeepsContent) {
  resize(16 * kPageSize);
  ASSERT_EQ(pwrite(fd_, "queen", 5, 3 * kPageSize), 5);
  auto window = Segment::map(fd_, 0, 16 * kPageSize, Access::kReadWrite);
  ASSERT_TRUE(window);
  EXPECT_EQ(blocks_in_pages(), 1U);
  ASSERT_TRUE(window->reserve(2 * kPageSize + 1, kPageSize));  // touches pages 2 and 3
  EXPECT_EQ(blocks_in_pages(), 2U);
  EXPECT_EQ(std::memcmp(window->data() + 3 * kPageSize, "queen", 5), 0);
  ASSERT_TRUE(window->reserve(0, window->size()));
  EXPECT_EQ(blocks_in_pages(), 16U);
  ASSERT_TRUE(window->reserve(5, 0));
  EXPECT_EQ(to_int(window->reserve(1, window->size()).error()), EINVAL);
  EXPECT_EQ(to_int(window->reserve(UINT64_MAX, 2).error()), EINVAL);
}

TEST_F(SegmentTest, PopulateByReadingMakesPagesToo) {
  resize(1000 * kPageSize);
  auto window = Segment::map(fd_, 0, 1000 * kPageSize, Access::kReadWrite);
  ASSERT_TRUE(window);
  ASSERT_EQ(populate_by_reading(window->data(), window->size()), 0);
  EXPECT_EQ(blocks_in_pages(), 1000U);
  ASSERT_TRUE(size_file(fd_, 500 * kPageSize));
  EXPECT_EQ(populate_by_reading(window->data(), window->size()), EFAULT);
}

TEST_F(SegmentTest, GiveBackReturnsWholePagesOnly) {
  ASSERT_TRUE(reserve_file(fd_, 0, 8 * kPageSize));
  auto window = Segment::map(fd_, 0, 8 * kPageSize, Access::kReadWrite);
  ASSERT_TRUE(window);
  std::memset(window->data(), 7, window->size());
  window->give_back(kPageSize - 1, 3 * kPageSize);  // pages 1 and 2 lie inside as a whole
  EXPECT_EQ(blocks_in_pages(), 6U);
  EXPECT_EQ(static_cast<int>(window->data()[kPageSize - 1]), 7);
  EXPECT_EQ(static_cast<int>(window->data()[kPageSize]), 0);
  EXPECT_EQ(static_cast<int>(window->data()[3 * kPageSize]), 7);
  window->give_back(10, 100);
  window->give_back(0, window->size() + 1);
  EXPECT_EQ(static_cast<int>(window->data()[0]), 7);
}

TEST_F(SegmentTest, LockedMemoryIsGivenBackAndHolesStayHoles) {
  constexpr uint64_t kSize = 512 * kPageSize;
  resize(2 * kSize);
  auto before = Segment::map(fd_, 0, kPageSize, Access::kReadWrite);
  ASSERT_TRUE(before);
  std::memset(before->data(), 7, kPageSize);
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) GTEST_SKIP() << "mlockall(2) is refused";
  auto after = Segment::map(fd_, kSize, kSize, Access::kReadWrite);
  before->give_back(0, kPageSize);
  munlockall();
  ASSERT_TRUE(after);
  EXPECT_EQ(blocks_in_pages(), 0U);
  EXPECT_EQ(static_cast<int>(before->data()[0]), 0);
  after->data()[1] = std::byte{1};
}

TEST_F(SegmentTest, MoreThanMemoryIsRefusedBeforeAnyOfItIsTaken) {
  constexpr uint64_t kFar = uint64_t{1} << 42;
  resize(kFar);
  auto window = Segment::map(fd_, 0, kFar, Access::kReadWrite);
  ASSERT_TRUE(window);
  const Status reserved = window->reserve(0, kFar);
  ASSERT_FALSE(reserved);
  EXPECT_EQ(to_int(reserved.error()), ENOMEM);
  EXPECT_EQ(to_int(reserve_file(fd_, 0, kFar).error()), ENOMEM);
  EXPECT_EQ(blocks_in_pages(), 0U);
}

}  // namespace
}  // namespace skep
