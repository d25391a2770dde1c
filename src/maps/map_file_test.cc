// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <cerrno>
#include <functional>

#include "maps/map_test_support.h"

namespace skep {
namespace {

using testing::error_of;

class MapFileTest : public testing::MapTest {
 protected:
  static MapSpec array() { return spec(BPF_MAP_TYPE_ARRAY, 4, 100, 1000, BPF_F_MMAPABLE); }
};

TEST_F(MapFileTest, WhatCreationWritesIsWhatOpeningReads) {
  MapCreation creation;
  creation.spec = array();
  creation.spec.flags |= BPF_F_RDONLY;
  std::strcpy(creation.name, "counts");
  creation.btf_id = 5;
  creation.btf_key_type = 6;
  creation.btf_value_type = 7;
  const int fd = make_file();
  auto made = create_map(fd, creation, machine());
  ASSERT_TRUE(made);
  auto opened = open_map(fd, Access::kReadWrite, machine());
  ASSERT_TRUE(opened) << last_error_sentence();
  const MapHeader& header = (*opened)->header();
  EXPECT_STREQ(header.name, "counts");
  EXPECT_EQ(header.btf_id, 5U);
  EXPECT_EQ(header.btf_key_type, 6U);
  EXPECT_EQ(header.btf_value_type, 7U);
  EXPECT_EQ(header.created_by_uid, geteuid());
  EXPECT_EQ(header.spec.flags, uint32_t{BPF_F_MMAPABLE}) << "RDONLY belongs to the descriptor";
  EXPECT_EQ(header.frozen.load(), 0U);
  EXPECT_NE(header.hash_seed[0] | header.hash_seed[3], 0U);

  struct stat status;
  ASSERT_EQ(fstat(fd, &status), 0);
  EXPECT_EQ(header.memory, static_cast<uint64_t>(status.st_blocks) * 512) << "all of it reserved, and nothing else";
  EXPECT_GE(header.memory, 104U * 1000U);
}

TEST_F(MapFileTest, BothFacesOfAFileAreOneMap) {
  auto made = make(array());
  auto reader = open_map(last_file(), Access::kReadOnly, machine());
  ASSERT_TRUE(reader);
  std::vector<unsigned char> value(100, 3), copy(100);
  const uint32_t index = 999;
  {
    const Lease lease(machine());
    ASSERT_TRUE(made->update(lease, &index, value.data(), 0));
  }
  ASSERT_TRUE((*reader)->lookup(&index, copy.data(), 0));
  EXPECT_EQ(copy, value);
  unsigned char byte;
  ASSERT_EQ(pread(last_file(), &byte, 1, 999 * 104), 1) << "values stand at offset 0 of the file";
  EXPECT_EQ(byte, 3);
  EXPECT_EQ((*reader)->segments().user.size(), round_up(104 * 1000, kPageSize) + kPageSize);
}

TEST_F(MapFileTest, UnknownTypes) {
  EXPECT_EQ(create_error(spec(0, 4, 4, 1)), EINVAL);
  EXPECT_EQ(create_error(spec(9999, 4, 4, 1)), EINVAL);
  EXPECT_EQ(find_map_kind(9999), nullptr);
  EXPECT_STREQ(find_map_kind(BPF_MAP_TYPE_ARRAY)->name, "array");
}

// Whatever a hostile or foreign file states, opening it refuses with a sentence and maps nothing beyond its end.
TEST_F(MapFileTest, HostileHeadersAreRefused) {
  const std::pair<const char*, std::function<void(MapHeader&)>> attacks[] = {
      {"type", [](MapHeader& header) { header.spec.type = 77; }},
      {"other kind", [](MapHeader& header) { header.spec.type = BPF_MAP_TYPE_PERCPU_ARRAY; }},
      {"more entries", [](MapHeader& header) { header.spec.max_entries = 100000; }},
      {"no entries", [](MapHeader& header) { header.spec.max_entries = 0; }},
      {"larger values", [](MapHeader& header) { header.spec.value_size = 0x7fffffff; }},
      {"larger keys", [](MapHeader& header) { header.spec.key_size = 8; }},
      {"field outside", [](MapHeader& header) { header.spec.fields.spin_lock = 100; }},
      {"user size", [](MapHeader& header) { header.file.user_size += kPageSize; }},
      {"huge user size", [](MapHeader& header) { header.file.user_size = ~uint64_t{0} - kPageSize + 1; }},
      {"odd user size", [](MapHeader& header) { header.file.user_size += 1; }},
      {"no private part", [](MapHeader& header) { header.file.private_size = 0; }},
      {"larger private part", [](MapHeader& header) { header.file.private_size += kPageSize; }},
      {"cpus", [](MapHeader& header) { ++header.shape.cpus; }},
      {"slots", [](MapHeader& header) { --header.shape.slots; }},
      {"layout version", [](MapHeader& header) { ++header.file.layout_version; }},
      {"magic", [](MapHeader& header) { header.file.magic[0] = 'x'; }},
      {"object kind", [](MapHeader& header) { header.file.kind = ObjectKind::kProgram; }},
  };
  for (const auto& [name, attack] : attacks) {
    auto map = make(array());
    ASSERT_TRUE(map);
    attack(map->header());
    map.reset();
    clear_last_error();
    EXPECT_EQ(error_of(open_map(last_file(), Access::kReadWrite, machine())), EINVAL) << name;
    EXPECT_STRNE(last_error_sentence(), "") << name;
  }
}

TEST_F(MapFileTest, TruncatedAndForeignFilesAreRefused) {
  auto map = make(array());
  const uint64_t size = map->header().file.private_size;
  map.reset();
  for (const uint64_t length :
       {kHeaderOffset + size - 1, kHeaderOffset + 10, kHeaderOffset, uint64_t{4096}, uint64_t{0}}) {
    ASSERT_EQ(ftruncate(last_file(), static_cast<off_t>(length)), 0);
    EXPECT_EQ(error_of(open_map(last_file(), Access::kReadOnly, machine())), EINVAL) << length;
  }
  ASSERT_EQ(pwrite(make_file(), "hello", 5, 0), 5);
  EXPECT_EQ(error_of(open_map(last_file(), Access::kReadOnly, machine())), EINVAL);
}

}  // namespace
}  // namespace skep
