// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <thread>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

struct Flow {
  uint32_t source, target;
  uint16_t source_port, target_port;
  uint32_t protocol;
  friend auto operator<=>(const Flow&, const Flow&) = default;
};
struct Counters {
  uint64_t packets, bytes;
  friend bool operator==(const Counters&, const Counters&) = default;
};
struct Padded {
  uint8_t small;
  uint32_t large;
};
static_assert(detail::MapKey<Flow> && detail::MapValue<Padded>);
static_assert(!detail::MapKey<Padded> && !detail::MapKey<float> && !detail::MapValue<char*>);

class HashMapFaceTest : public testing::InstanceTest {
 protected:
  HashMap<Flow, Counters> make(uint32_t max_entries) {
    auto map = HashMap<Flow, Counters>::create(instance(), {.name = "flows", .max_entries = max_entries});
    EXPECT_TRUE(map) << map.error().message;
    return std::move(*map);
  }
  static Flow flow(uint32_t n) { return {n, n + 1, 80, 443, 6}; }
};

TEST_F(HashMapFaceTest, InsertAssignEraseTake) {
  auto map = make(2);
  EXPECT_EQ(map.get(flow(1)), std::nullopt);
  EXPECT_TRUE(*map.insert(flow(1), {1, 10}));
  EXPECT_FALSE(*map.insert(flow(1), {2, 20}));
  EXPECT_EQ(map.get(flow(1)), (Counters{1, 10}));
  EXPECT_FALSE(*map.assign(flow(2), {2, 20}));
  EXPECT_TRUE(*map.assign(flow(1), {3, 30}));
  EXPECT_EQ(map.get(flow(1)), (Counters{3, 30}));
  EXPECT_TRUE(map.insert_or_assign(flow(2), {4, 40}));
  EXPECT_TRUE(map.contains(flow(2)));

  const auto full = map.insert(flow(3), {});
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, E2BIG);
  EXPECT_FALSE(full.error().message.empty());
  EXPECT_TRUE(map.insert_or_assign(flow(2), {5, 50})) << "replacing needs no room";

  EXPECT_EQ(*map.take(flow(2)), (Counters{5, 50}));
  EXPECT_EQ(*map.take(flow(2)), std::nullopt);
  EXPECT_TRUE(*map.erase(flow(1)));
  EXPECT_FALSE(*map.erase(flow(1)));
}

TEST_F(HashMapFaceTest, UpdateLosesNothing) {
  auto map = make(4);
  EXPECT_FALSE(*map.update(flow(1), [](Counters& value) { value.packets = 1; }));
  constexpr int kThreads = 3;
  constexpr uint64_t kRounds = 2000;
  {
    std::vector<std::jthread> threads;
    for (int n = 0; n < kThreads; ++n) {
      threads.emplace_back([&] {
        for (uint64_t i = 0; i < kRounds; ++i) {
          EXPECT_TRUE(map.update_or_insert(flow(1), {1, 100}, [](Counters& value) {
            value.packets += 1;
            value.bytes += 100;
          }));
          const auto seen = map.get(flow(1));
          ASSERT_TRUE(seen);
          ASSERT_EQ(seen->bytes, seen->packets * 100) << "torn";
        }
      });
    }
  }
  EXPECT_EQ(map.get(flow(1)), (Counters{kThreads * kRounds, kThreads * kRounds * 100}));
}

TEST_F(HashMapFaceTest, GetMany) {
  auto map = make(100);
  for (uint32_t i = 0; i < 100; i += 2) ASSERT_TRUE(*map.insert(flow(i), {i, i}));
  std::vector<Flow> keys;
  for (uint32_t i = 0; i < 100; ++i) keys.push_back(flow(i));
  std::vector<Counters> values(100);
  std::vector<uint8_t> found(100, 9);
  EXPECT_EQ(map.get_many(keys, values, found), 50U);
  for (uint32_t i = 0; i < 100; ++i) {
    ASSERT_EQ(found[i], i % 2 == 0);
    if (found[i]) {
      EXPECT_EQ(values[i].packets, i);
    }
  }
  EXPECT_EQ(map.get_many(keys, std::span(values).first(3), found), 2U);
}

TEST_F(HashMapFaceTest, FindAndVisit) {
  auto map = make(4);
  ASSERT_TRUE(*map.insert(flow(1), {7, 8}));
  {
    const Guard guard(map);
    const auto value = map.find(guard, flow(1));
    ASSERT_TRUE(value);
    EXPECT_EQ(value->packets, 7U);
    EXPECT_FALSE(map.find(guard, flow(2)));
  }
  uint64_t bytes = 0;
  EXPECT_TRUE(map.visit(flow(1), [&](const Counters& value) { bytes = value.bytes; }));
  EXPECT_EQ(bytes, 8U);
  EXPECT_FALSE(map.visit(flow(2), [](const Counters&) { FAIL(); }));
}

TEST_F(HashMapFaceTest, IterationSeesEverythingOnce) {
  auto map = make(5000);
  EXPECT_FALSE(map.entries().begin() != map.entries().end());
  for (uint32_t i = 0; i < 5000; ++i) ASSERT_TRUE(*map.insert(flow(i), {i, 2 * i}));
  std::map<Flow, Counters> seen;
  auto walk = map.entries();
  for (const auto& [key, value] : walk) {
    EXPECT_TRUE(seen.emplace(key, value).second);
    EXPECT_EQ(value.packets, key.source);
  }
  EXPECT_EQ(walk.error(), 0);
  EXPECT_EQ(seen.size(), 5000U);
}

TEST_F(HashMapFaceTest, IterationWhileErasing) {
  auto map = make(1000);
  for (uint32_t i = 0; i < 1000; ++i) ASSERT_TRUE(*map.insert(flow(i), {i, i}));
  size_t erased = 0;
  for (const auto& [key, value] : map.entries()) erased += *map.erase(key);
  EXPECT_EQ(erased, 1000U);
  EXPECT_EQ(map.get(flow(5)), std::nullopt);
}

TEST_F(HashMapFaceTest, OpenByIdAndPin) {
  auto map = make(10);
  ASSERT_TRUE(*map.insert(flow(1), {1, 2}));
  auto pinned = map.pin("/sys/fs/bpf/flows");
  ASSERT_TRUE(pinned) << pinned.error().message;
  auto by_id = HashMap<Flow, Counters>::open_id(instance(), map.id());
  ASSERT_TRUE(by_id) << by_id.error().message;
  auto by_pin = HashMap<Flow, Counters>::open_pin(instance(), "/sys/fs/bpf/flows");
  ASSERT_TRUE(by_pin) << by_pin.error().message;
  EXPECT_EQ(by_pin->id(), map.id());
  EXPECT_EQ(by_pin->name(), "flows");
  EXPECT_EQ(by_pin->max_entries(), 10U);
  ASSERT_TRUE(*by_id->insert(flow(2), {3, 4}));
  EXPECT_EQ(by_pin->get(flow(2)), (Counters{3, 4}));

  EXPECT_EQ(map.pin("/sys/fs/bpf/flows").error().code, EEXIST);
  const auto missing = HashMap<Flow, Counters>::open_pin(instance(), "/sys/fs/bpf/nothing");
  EXPECT_EQ(missing.error().code, ENOENT);
  EXPECT_NE(missing.error().message.find("/sys/fs/bpf/nothing"), std::string::npos);
}

TEST_F(HashMapFaceTest, TheLastHandleEndsTheMap) {
  uint32_t id = 0;
  {
    auto map = make(10);
    id = map.id();
    auto other = HashMap<Flow, Counters>::open_id(instance(), id);
    ASSERT_TRUE(other);
    EXPECT_TRUE(*other->insert(flow(1), {1, 1}));
    map = std::move(*other);
    EXPECT_TRUE(map.contains(flow(1)));
  }
  EXPECT_EQ((HashMap<Flow, Counters>::open_id(instance(), id).error().code), ENOENT);
}

TEST_F(HashMapFaceTest, WrongTypesAreRefusedNamingBothSides) {
  auto map = make(10);
  const auto wrong_key = HashMap<uint32_t, Counters>::open_id(instance(), map.id());
  ASSERT_FALSE(wrong_key);
  EXPECT_EQ(wrong_key.error().code, EINVAL);
  EXPECT_EQ(wrong_key.error().message,
            "map " + std::to_string(map.id()) +
                " (flows) is a hash with keys of 16 and values of 16 bytes, not a hash with keys of 4 and values of "
                "16 bytes");
  const auto wrong_kind = Array<Counters>::open_id(instance(), map.id());
  ASSERT_FALSE(wrong_kind);
  EXPECT_NE(wrong_kind.error().message.find("not an array with keys of 4"), std::string::npos);
}

TEST_F(HashMapFaceTest, ReadOnlyHandles) {
  auto map = make(10);
  ASSERT_TRUE(*map.insert(flow(1), {1, 2}));
  auto reader = HashMap<Flow, Counters>::open_id(instance(), map.id(), Access::kReadOnly);
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_EQ(reader->get(flow(1)), (Counters{1, 2}));
  EXPECT_EQ(reader->insert(flow(2), {}).error().code, EPERM);
  EXPECT_EQ(reader->erase(flow(1)).error().code, EPERM);
  EXPECT_EQ(reader->update(flow(1), [](Counters&) {}).error().code, EPERM);
  size_t count = 0;
  for (const auto& entry : reader->entries()) count += entry.value.packets;
  EXPECT_EQ(count, 1U);
  EXPECT_TRUE(reader->visit(flow(1), [](const Counters& value) { EXPECT_EQ(value.bytes, 2U); }));
}

TEST_F(HashMapFaceTest, CreationErrors) {
  using Map = HashMap<Flow, Counters>;
  EXPECT_EQ(Map::create(instance(), {.name = "sixteen_letters_", .max_entries = 1}).error().code, EINVAL);
  EXPECT_EQ(Map::create(instance(), {.name = "no spaces", .max_entries = 1}).error().code, EINVAL);
  EXPECT_EQ(Map::create(instance(), {.name = "empty", .max_entries = 0}).error().code, EINVAL);
  EXPECT_EQ(Map::create(instance(), {.max_entries = 1, .flags = BPF_F_RDONLY}).error().code, EINVAL);
  EXPECT_TRUE(Map::create(instance(), {.max_entries = 1, .flags = BPF_F_NO_PREALLOC}));
}

}  // namespace
}  // namespace skep
