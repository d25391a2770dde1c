// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

struct Times {
  uint64_t count, total;
  friend bool operator==(const Times&, const Times&) = default;
};

class StorageFaceTest : public testing::InstanceTest {
 protected:
  template <class Storage>
  Storage make(const char* name = "storage") {
    auto map = Storage::create(instance(), {.name = name});
    EXPECT_TRUE(map) << map.error().message;
    return std::move(*map);
  }
  template <class Storage>
  static uint64_t count(const Storage& map) {
    return map.for_each([](const StorageOwner&, auto&) {}).value();
  }
  static int open_pidfd() { return static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)); }
};

TEST_F(StorageFaceTest, AnObjectsValueGoesWithIt) {
  auto map = make<ObjectStorage<Times>>();
  OwnerReference gone;
  {
    Owner object(instance());
    EXPECT_FALSE(object.reference());
    EXPECT_EQ(map.get(object).value(), std::nullopt);
    EXPECT_FALSE(map.assign(object, {1, 1}).value());
    EXPECT_FALSE(object.reference()) << "nothing was given to it";
    EXPECT_TRUE(map.insert(object, {1, 10}).value());
    EXPECT_FALSE(map.insert(object, {2, 20}).value());
    EXPECT_TRUE(map.assign(object, {3, 30}).value());
    EXPECT_EQ(map.get(object).value(), (Times{3, 30}));
    gone = object.reference();
    EXPECT_EQ(map.get(gone).value(), (Times{3, 30}));
    EXPECT_EQ(count(map), 1U);
    const Guard guard(map);
    map.find(guard, object)->total = 31;
    EXPECT_EQ(map.find(guard, gone)->total, 31U);
  }
  EXPECT_EQ(map.get(gone).value(), std::nullopt);
  EXPECT_EQ(map.insert(gone, {1, 1}).error().code, ENOENT);
  EXPECT_EQ(map.get(OwnerReference{}).value(), std::nullopt);
  EXPECT_EQ(count(map), 0U);
}

TEST_F(StorageFaceTest, AnOwnerMoves) {
  auto map = make<ObjectStorage<uint64_t>>();
  Owner first(instance());
  ASSERT_TRUE(map.insert(first, 7).value());
  Owner second(std::move(first));
  EXPECT_EQ(map.get(second).value(), 7U);
  std::vector<Owner> many;
  for (int i = 0; i < 20; ++i) many.emplace_back(instance());
  many.front() = std::move(second);
  EXPECT_EQ(map.get(many.front()).value(), 7U);
  many.front().release();
  EXPECT_EQ(map.get(many.front()).value(), std::nullopt);
  EXPECT_EQ(count(map), 0U);
}

TEST_F(StorageFaceTest, ObjectsHaveValuesInMapsOfEveryKind) {
  auto tasks = make<TaskStorage<uint64_t>>();
  auto cgroups = make<CgroupStorage<uint64_t>>();
  auto sockets = make<SocketStorage<uint64_t>>();
  auto inodes = make<InodeStorage<uint64_t>>();
  {
    Owner object(instance());
    ASSERT_TRUE(tasks.insert(object, 1).value());
    ASSERT_TRUE(cgroups.insert(object, 2).value());
    ASSERT_TRUE(sockets.insert(object, 3).value());
    ASSERT_TRUE(inodes.insert(object, 4).value());
    EXPECT_EQ(tasks.get(object).value(), 1U);
    EXPECT_EQ(cgroups.get(object).value(), 2U);
    EXPECT_EQ(sockets.get(object).value(), 3U);
    EXPECT_EQ(inodes.get(object).value(), 4U);
    EXPECT_TRUE(sockets.erase(object).value());
    EXPECT_FALSE(sockets.erase(object).value());
  }
  EXPECT_EQ(count(tasks) + count(cgroups) + count(sockets) + count(inodes), 0U);
}

TEST_F(StorageFaceTest, TheCurrentTask) {
  auto map = make<TaskStorage<uint64_t>>();
  EXPECT_EQ(map.get(current_task).value(), std::nullopt);
  {
    const Guard guard(map);
    EXPECT_FALSE(map.find(guard, current_task));
    *map.find_or_insert(guard, current_task, 5).value() += 1;
  }
  const int self = open_pidfd();
  ASSERT_GE(self, 0);
  EXPECT_EQ(map.get(self).value(), 6U);
  std::thread([&] {
    EXPECT_EQ(map.get(current_task).value(), std::nullopt);
    ASSERT_TRUE(map.insert(current_task, 9).value());
    EXPECT_EQ(count(map), 2U);
  }).join();
  EXPECT_EQ(count(map), 1U) << "the thread's value went with it";
  EXPECT_TRUE(map.erase(self).value());
  close(self);
  EXPECT_EQ(make<SocketStorage<uint64_t>>("sockets").insert(current_task, 1).error().code, ENOENT);
}

TEST_F(StorageFaceTest, DescriptorsAreKeys) {
  auto tasks = make<TaskStorage<uint64_t>>();
  auto sockets = make<SocketStorage<uint64_t>>();
  auto inodes = make<InodeStorage<uint64_t>>();
  auto cgroups = make<CgroupStorage<uint64_t>>();
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  ASSERT_TRUE(sockets.insert(ends[0], 1).value());
  EXPECT_EQ(sockets.get(ends[0]).value(), 1U);
  EXPECT_EQ(sockets.get(ends[1]).value(), std::nullopt);
  ASSERT_TRUE(inodes.insert_or_assign(ends[1], 2));
  EXPECT_EQ(inodes.get(ends[1]).value(), 2U);
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(sockets.get(file).error().code, ENOTSOCK);
  EXPECT_EQ(tasks.get(file).error().code, EBADF);
  EXPECT_EQ(cgroups.insert(file, 1).error().code, EBADF);
  EXPECT_EQ(inodes.get(-1).error().code, EBADF);
  std::optional<StorageOwner> seen;
  EXPECT_EQ(sockets.for_each([&](const StorageOwner& owner, uint64_t&) { seen = owner; }).value(), 1U);
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  ASSERT_EQ(getsockopt(ends[0], SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
  EXPECT_TRUE(seen && seen->kind == OwnerKind::kSocket && seen->id == cookie && !seen->reference());
  for (const int fd : {ends[0], ends[1], file}) close(fd);
}

TEST_F(StorageFaceTest, OpenedAgainItIsTheSame) {
  auto map = make<ObjectStorage<uint64_t>>();
  ASSERT_TRUE(map.pin("/sys/fs/bpf/objects"));
  Owner object(instance());
  ASSERT_TRUE(map.insert(object, 7).value());
  auto pinned = ObjectStorage<uint64_t>::open_pin(instance(), "/sys/fs/bpf/objects", Access::kReadOnly);
  ASSERT_TRUE(pinned) << pinned.error().message;
  EXPECT_EQ(pinned->get(object).value(), 7U);
  EXPECT_EQ(pinned->insert_or_assign(object, 8).error().code, EPERM);
  EXPECT_EQ(pinned->erase(object).error().code, EPERM);
  const auto other = SocketStorage<uint64_t>::open_id(instance(), map.id());
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message.find("storage of tasks"), std::string::npos) << other.error().message;
}

TEST_F(StorageFaceTest, SizesThatThereAreNot) {
  struct Large {
    std::byte bytes[65408];
  };
  EXPECT_EQ(TaskStorage<Large>::create(instance(), {.name = "large"}).error().code, E2BIG);
  EXPECT_EQ(TaskStorage<int>::create(instance(), {.name = "many", .max_entries = 1}).error().code, EINVAL);
}

TEST_F(StorageFaceTest, ThreadsAttachOneOwnerOnce) {
  auto map = make<ObjectStorage<uint64_t>>();
  for (int round = 0; round < 200; ++round) {
    Owner object(instance());
    std::atomic<int> inserted{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        while (!go) std::this_thread::yield();
        inserted += map.insert(object, 1).value() ? 1 : 0;
      });
    }
    go = true;
    for (auto& thread : threads) thread.join();
    ASSERT_EQ(inserted, 1);
    ASSERT_EQ(count(map), 1U);
  }
  EXPECT_EQ(count(map), 0U);
}

// Readers have references only; what they find is the object's own value or nothing, never another one's.
TEST_F(StorageFaceTest, OwnersDieWhileOthersRead) {
  auto map = make<ObjectStorage<Times>>();
  constexpr int kSlots = 8;
  std::array<std::atomic<uint64_t>, kSlots> references{};
  std::atomic<bool> done{false};
  std::atomic<uint64_t> found{0};
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      while (!done) {
        for (auto& place : references) {
          const OwnerReference who{place.load()};
          const auto copy = map.get(who).value();
          const Guard guard(map);
          const auto in_place = map.find(guard, who);
          if (copy && (copy->total != who.value || copy->count != ~who.value)) ++wrong;
          if (in_place) {
            ++found;
            // It stays what it is to the end of the section, whatever becomes of its owner.
            if (in_place->total != who.value || in_place->count != ~who.value) ++wrong;
          }
        }
      }
    });
  }
  std::optional<Owner> objects[kSlots];
  for (int i = 0; i < 4000 || found < 1000; ++i) {
    auto& object = objects[i % kSlots];
    object.emplace(instance());
    const OwnerReference who = object->attach().value();
    ASSERT_TRUE(map.insert(*object, {~who.value, who.value}).value());
    references[static_cast<size_t>(i % kSlots)] = who.value;
  }
  done = true;
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(count(map), static_cast<uint64_t>(kSlots));
  for (auto& object : objects) object.reset();
  EXPECT_EQ(count(map), 0U);
}

}  // namespace
}  // namespace skep
