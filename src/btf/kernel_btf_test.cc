// SPDX-License-Identifier: Apache-2.0
#include "btf/kernel_btf.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "btf/btf.h"
#include "memory/test_directory.h"

namespace skep {
namespace {

class KernelBtfTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto types = KernelBtf::read();
    if (!types) GTEST_SKIP() << last_error_sentence();
    types_ = std::make_unique<KernelBtf>(std::move(*types));
  }
  std::unique_ptr<KernelBtf> types_;
};

TEST_F(KernelBtfTest, EveryTypeIsTheOneThatTheCheckingReaderSees) {
  std::ifstream file(KernelBtf::kPath, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto checked = Btf::parse(std::as_bytes(std::span(bytes)));
  if (!checked) GTEST_SKIP() << "this kernel's types are none that a client may load";
  ASSERT_EQ(types_->type_count(), (*checked)->type_count());
  for (uint32_t id = 0; id < types_->type_count(); ++id) {
    ASSERT_EQ(types_->kind_of(id), (*checked)->kind_of(id)) << id;
    ASSERT_EQ(types_->name(id), (*checked)->name(id)) << id;
  }
}

TEST_F(KernelBtfTest, FindsFunctionsByName) {
  const uint32_t id = types_->find(BtfKind::kFunc, "bpf_map_put");
  ASSERT_NE(id, 0U);
  EXPECT_EQ(types_->kind_of(id), BtfKind::kFunc);
  EXPECT_EQ(types_->name(id), "bpf_map_put");
  EXPECT_EQ(types_->find(BtfKind::kFunc, "no_such_function_anywhere"), 0U);
  EXPECT_EQ(types_->find(BtfKind::kStruct, "bpf_map_put"), 0U);
}

TEST_F(KernelBtfTest, FindsMembers) {
  const uint32_t map = types_->find(BtfKind::kStruct, "bpf_map");
  ASSERT_NE(map, 0U);
  const auto id = types_->member(map, "id"), name = types_->member(map, "name"), type = types_->member(map, "map_type");
  ASSERT_TRUE(id && name && type);
  EXPECT_EQ(types_->size_of(id->type), 4U);
  EXPECT_EQ(types_->size_of(type->type), 4U);
  EXPECT_NE(id->offset, name->offset);
  EXPECT_LE(id->offset + 4, types_->size_of(map));
  EXPECT_FALSE(types_->member(map, "no_such_member"));
  EXPECT_FALSE(types_->member(0, "id"));
  EXPECT_FALSE(types_->member(0xffffffff, "id"));
}

TEST_F(KernelBtfTest, FindsMembersOfAnonymousOnes) {
  // struct page's first union is anonymous, and so are the structs in it.
  const uint32_t page = types_->find(BtfKind::kStruct, "page");
  const auto mapping = types_->member(page, "mapping");
  ASSERT_TRUE(mapping);
  EXPECT_GE(mapping->offset, 8U);
}

TEST_F(KernelBtfTest, QueriesOutsideAnswerNothing) {
  for (const uint32_t id : {0U, types_->type_count(), 0xffffffffU}) {
    EXPECT_EQ(types_->kind_of(id), BtfKind::kVoid);
    EXPECT_EQ(types_->name(id), "");
    EXPECT_EQ(types_->size_of(id), 0U);
  }
}

class KernelBtfFile : public ::testing::Test {
 protected:
  int read(std::string_view bytes) {
    const std::string path = directory_.path() + "/types";
    std::ofstream(path, std::ios::binary) << bytes;
    clear_last_error();
    const auto types = KernelBtf::read(path.c_str());
    return types ? 0 : to_int(types.error());
  }
  /// A header for `types` words of types and a string section of one byte.
  static std::string file(std::vector<uint32_t> types) {
    std::vector<uint32_t> words{
        0x0001eb9f, 24, 0, static_cast<uint32_t>(types.size() * 4), static_cast<uint32_t>(types.size() * 4), 1};
    words.insert(words.end(), types.begin(), types.end());
    return std::string(reinterpret_cast<const char*>(words.data()), words.size() * 4) + '\0';
  }
  TestDirectory directory_;
};

TEST_F(KernelBtfFile, MissingFilesAreNamed) {
  const auto types = KernelBtf::read("/sys/kernel/btf/there_is_no_such_module");
  ASSERT_FALSE(types);
  EXPECT_EQ(to_int(types.error()), ENOENT);
  EXPECT_NE(std::string_view(last_error_sentence()).find("there_is_no_such_module"), std::string_view::npos);
}

TEST_F(KernelBtfFile, UnreadableFilesSayWhy) {
  const auto types = KernelBtf::read(directory_.path().c_str());
  ASSERT_FALSE(types);
  EXPECT_EQ(to_int(types.error()), EISDIR);
}

TEST_F(KernelBtfFile, DamagedFilesAreRefused) {
  EXPECT_EQ(read(file({0, 1U << 24, 4, 32})), 0);
  EXPECT_EQ(read(""), EINVAL);
  EXPECT_NE(std::string_view(last_error_sentence()), "");
  EXPECT_EQ(read("not BTF, but long enough for a header"), EINVAL);
  EXPECT_EQ(read(file({0, 1U << 24, 4})), EINVAL) << "the integer's own word is missing";
  EXPECT_EQ(read(file({0, 4U << 24 | 2, 4, 0, 0, 0})), EINVAL) << "a member is missing";
  EXPECT_EQ(read(file({0, 31U << 24, 4})), EINVAL) << "no such kind";
  EXPECT_EQ(read(file({0, 0, 4})), EINVAL) << "void is none";
  EXPECT_EQ(read(file({0, 1U << 24, 4, 32}).substr(0, 36)), EINVAL) << "cut off";
}

TEST_F(KernelBtfFile, TypesThatContainThemselvesEnd) {
  // A struct whose anonymous member is itself, and a typedef of itself.
  const std::string path = directory_.path() + "/types";
  std::ofstream(path, std::ios::binary) << file({0, 4U << 24 | 1, 4, 0, 1, 0, 0, 8U << 24, 2});
  const auto types = KernelBtf::read(path.c_str());
  ASSERT_TRUE(types);
  EXPECT_FALSE(types->member(1, "x"));
  EXPECT_EQ(types->size_of(2), 0U);
}

}  // namespace
}  // namespace skep
