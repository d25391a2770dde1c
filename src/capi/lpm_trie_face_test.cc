// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <vector>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

using Ipv4 = std::array<uint8_t, 4>;
using Routes = LpmTrie<Ipv4, uint64_t>;

class LpmTrieFaceTest : public testing::InstanceTest {
 protected:
  Routes make(uint32_t max_entries) {
    auto routes =
        Routes::create(instance(), {.name = "routes", .max_entries = max_entries, .flags = BPF_F_NO_PREALLOC});
    EXPECT_TRUE(routes) << routes.error().message;
    return std::move(*routes);
  }
};

TEST_F(LpmTrieFaceTest, TheLongestPrefixWins) {
  auto routes = make(3);
  EXPECT_TRUE(*routes.insert({8, {10, 0, 0, 0}}, 8));
  EXPECT_TRUE(*routes.insert({16, {10, 1, 0, 0}}, 16));
  EXPECT_FALSE(*routes.insert({16, {10, 1, 0, 0}}, 17));
  EXPECT_EQ(routes.get(Ipv4{10, 1, 2, 3}), 16U);
  EXPECT_EQ(routes.get(Ipv4{10, 2, 2, 3}), 8U);
  EXPECT_EQ(routes.get(Ipv4{11, 0, 0, 1}), std::nullopt);
  EXPECT_EQ(routes.get({12, {10, 1, 2, 3}}), 8U) << "no longer than 12 bits";
  EXPECT_FALSE(*routes.assign({24, {10, 1, 2, 0}}, 24));
  EXPECT_TRUE(routes.insert_or_assign({24, {10, 1, 2, 0}}, 24));
  EXPECT_EQ(routes.insert({32, {10, 1, 2, 3}}, 32).error().code, ENOSPC);
  EXPECT_EQ(routes.insert({33, {10, 1, 2, 3}}, 33).error().code, EINVAL);
  EXPECT_TRUE(*routes.update({24, {10, 1, 2, 0}}, [](uint64_t& value) { value += 100; }));
  EXPECT_FALSE(*routes.update({25, {10, 1, 2, 0}}, [](uint64_t&) { FAIL(); }));
  EXPECT_EQ(routes.get(Ipv4{10, 1, 2, 3}), 124U);
  EXPECT_TRUE(*routes.erase({24, {10, 1, 2, 0}}));
  EXPECT_FALSE(*routes.erase({24, {10, 1, 2, 0}}));
  EXPECT_EQ(routes.get(Ipv4{10, 1, 2, 3}), 16U);
}

TEST_F(LpmTrieFaceTest, InPlaceAndInOrder) {
  auto routes = make(10);
  ASSERT_TRUE(*routes.insert({0, {}}, 1));
  ASSERT_TRUE(*routes.insert({8, {10, 0, 0, 0}}, 2));
  ASSERT_TRUE(*routes.insert({32, {10, 0, 0, 1}}, 3));
  {
    const Guard guard(routes);
    const auto value = routes.find(guard, {10, 9, 9, 9});
    ASSERT_TRUE(value);
    EXPECT_EQ(*value, 2U);
  }
  uint64_t found = 0;
  EXPECT_TRUE(routes.visit({99, 0, 0, 0}, [&](const uint64_t& value) { found = value; }));
  EXPECT_EQ(found, 1U);
  std::vector<uint64_t> values;
  auto walk = routes.entries();
  for (const auto& [prefix, value] : walk) values.push_back(value);
  EXPECT_EQ(values, (std::vector<uint64_t>{3, 2, 1})) << "the more specific first";
  EXPECT_EQ(walk.error(), 0);
}

TEST_F(LpmTrieFaceTest, OpenByIdAndLongerAddresses) {
  auto routes = make(10);
  ASSERT_TRUE(*routes.insert({8, {10, 0, 0, 0}}, 2));
  auto reader = Routes::open_id(instance(), routes.id(), Access::kReadOnly);
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_EQ(reader->get(Ipv4{10, 1, 1, 1}), 2U);
  EXPECT_EQ(reader->erase({8, {10, 0, 0, 0}}).error().code, EPERM);
  using Ipv6 = std::array<uint8_t, 16>;
  EXPECT_FALSE((LpmTrie<Ipv6, uint64_t>::open_id(instance(), routes.id())));
  auto long_ones = LpmTrie<Ipv6, uint64_t>::create(instance(), {.max_entries = 4, .flags = BPF_F_NO_PREALLOC});
  ASSERT_TRUE(long_ones) << long_ones.error().message;
  ASSERT_TRUE(*long_ones->insert({16, {0x20, 0x01}}, 6));
  EXPECT_EQ(long_ones->get(Ipv6{0x20, 0x01, 0xd, 0xb8}), 6U);
}

}  // namespace
}  // namespace skep
