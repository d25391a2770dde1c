// SPDX-License-Identifier: Apache-2.0
#include "memory/file_header.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "memory/file_space.h"
#include "memory/test_directory.h"

namespace skep {
namespace {

class FileHeaderTest : public testing::Test {
 protected:
  ~FileHeaderTest() override { close(fd_); }

  /// Writes a good header after `change` spoilt it; the file has the size that the good one tells.
  void write_header(const std::function<void(FileHeader&)>& change) const {
    FileHeader header = make_file_header(ObjectKind::kMap, 3, 5000);
    ASSERT_TRUE(size_file(fd_, kHeaderOffset + header.private_size));
    change(header);
    ASSERT_EQ(pwrite(fd_, &header, sizeof(header), kHeaderOffset), static_cast<ssize_t>(sizeof(header)));
  }
  void expect_refused(const std::string& word) const {
    clear_last_error();
    const auto header = read_file_header(fd_);
    ASSERT_FALSE(header);
    EXPECT_EQ(to_int(header.error()), EINVAL);
    EXPECT_NE(std::string(last_error_sentence()).find(word), std::string::npos) << last_error_sentence();
  }

  TestDirectory directory_;
  int fd_ = directory_.make_file();
};

TEST_F(FileHeaderTest, RoundTrip) {
  write_header([](FileHeader&) {});
  const auto header = read_file_header(fd_, ObjectKind::kMap);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->user_size, kPageSize);
  EXPECT_EQ(header->private_size, 2 * kPageSize);
  EXPECT_EQ(header->kind, ObjectKind::kMap);
}

TEST_F(FileHeaderTest, AnotherKindIsNamed) {
  write_header([](FileHeader&) {});
  const auto header = read_file_header(fd_, ObjectKind::kMachine);
  ASSERT_FALSE(header);
  EXPECT_EQ(to_int(header.error()), EINVAL);
  const std::string sentence = last_error_sentence();
  EXPECT_NE(sentence.find("map"), std::string::npos);
  EXPECT_NE(sentence.find("machine"), std::string::npos);
}

TEST_F(FileHeaderTest, HostileHeadersAreRefused) {
  write_header([](FileHeader& header) { header.magic[0] = 'S'; });
  expect_refused("magic");
  write_header([](FileHeader& header) { header.layout_version += 1; });
  expect_refused("version");
  write_header([](FileHeader& header) { header.kind = ObjectKind{8}; });
  expect_refused("kind");
  write_header([](FileHeader& header) { header.kind = ObjectKind{0}; });
  expect_refused("kind");
  write_header([](FileHeader& header) { header.page_size = 65536; });
  expect_refused("pages");
  write_header([](FileHeader& header) { header.private_size += kPageSize; });
  expect_refused("truncated");
  write_header([](FileHeader& header) { header.private_size = 0; });
  expect_refused("sizes");
  write_header([](FileHeader& header) { header.private_size = UINT64_MAX - kPageSize + 1; });
  expect_refused("sizes");
  write_header([](FileHeader& header) { header.user_size = kHeaderOffset; });
  expect_refused("sizes");
  write_header([](FileHeader& header) { header.user_size = 1; });
  expect_refused("sizes");
}

TEST_F(FileHeaderTest, TruncatedAndForeignFilesAreRefused) {
  expect_refused("ends before");
  write_header([](FileHeader&) {});
  ASSERT_TRUE(size_file(fd_, kHeaderOffset + kPageSize));
  expect_refused("truncated");
  ASSERT_TRUE(size_file(fd_, kHeaderOffset + 8));
  expect_refused("ends before");
  const auto directory = read_file_header(directory_.fd());
  ASSERT_FALSE(directory);
  EXPECT_EQ(to_int(directory.error()), EINVAL);
  EXPECT_EQ(to_int(read_file_header(-1).error()), EBADF);
}

}  // namespace
}  // namespace skep
