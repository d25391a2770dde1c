// SPDX-License-Identifier: Apache-2.0
// Storage maps between processes: tasks that are killed and reaped, and writers that are killed in the middle of a
// value with a lock.
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

#include "machine/machine_test_support.h"
#include "maps/map_test_support.h"
#include "maps/storage_map.h"
#include "memory/test_repeats.h"
#include "storage/owner_source.h"

namespace skep {
namespace {

using testing::error_of;

class StorageMapProcessTest : public testing::MapTest {
 protected:
  /// As if it had been published under that id.
  std::unique_ptr<Map> make_storage(uint32_t id, uint32_t value_size, bool locked) {
    MapSpec map_spec = spec(BPF_MAP_TYPE_TASK_STORAGE, 4, value_size, 0, BPF_F_NO_PREALLOC);
    if (locked) map_spec.fields.spin_lock = value_size - 4;
    auto map = make(map_spec);
    EXPECT_EQ(pwrite(last_file(), &id, sizeof id, static_cast<off_t>(kHeaderOffset + offsetof(FileHeader, id))),
              static_cast<ssize_t>(sizeof id));
    return map;
  }
  static StorageMap& storage(const std::unique_ptr<Map>& map) { return static_cast<StorageMap&>(*map); }
};

TEST_F(StorageMapProcessTest, ATasksStorageGoesWhenTheTaskIsReaped) {
  const auto map = make_storage(1, 8, false);
  ASSERT_NE(map, nullptr);
  StorageMap& it = storage(map);
  constexpr int kTasks = 20;
  std::vector<std::unique_ptr<Child>> tasks;
  std::vector<OwnerIdentity> identities;
  for (uint64_t i = 0; i < kTasks; ++i) {
    tasks.push_back(std::make_unique<Child>([] {
      pause();
      return true;
    }));
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, tasks.back()->pid(), 0));
    ASSERT_GE(pidfd, 0);
    const auto identity = kTaskOwners.resolve(pidfd);
    ASSERT_TRUE(identity);
    const Lease lease(machine());
    ASSERT_TRUE(it.update_of(
        lease, *identity, [&] { return kTaskOwners.trace(pidfd); }, &i, BPF_ANY));
    identities.push_back(*identity);
    close(pidfd);
  }
  for (int i = 0; i < kTasks; i += 2) tasks[static_cast<size_t>(i)]->kill_and_wait();
  {
    const Lease lease(machine());
    it.owners().sweep_all(lease, is_gone);
  }
  for (uint64_t i = 0; i < kTasks; ++i) {
    uint64_t value = ~uint64_t{0};
    const int error = error_of(it.lookup_of(identities[i], &value, 0));
    EXPECT_EQ(error, i % 2 == 0 ? ENOENT : 0);
    if (i % 2 == 1) {
      EXPECT_EQ(value, i);
    }
  }
  EXPECT_EQ(it.check().elements, kTasks / 2);
  EXPECT_EQ(it.check().problem, "");
  EXPECT_EQ(it.owners().census().owners, kTasks / 2U);
  EXPECT_EQ(it.owners().census().traces, kTasks / 2U);
  EXPECT_EQ(it.owners().census().unfinished, 0U);
  EXPECT_EQ(it.owners().census().problem, "");
}

// What a dead writer had begun to write into an element is not completed over the one that has its memory next.
TEST_F(StorageMapProcessTest, ADeadWritersWriteIsNotCompletedInAnothersElement) {
  constexpr uint32_t kSize = 32 * 1024;
  const auto map = make_storage(1, kSize, true);
  ASSERT_NE(map, nullptr);
  StorageMap& it = storage(map);
  uint64_t serial = 0;
  const auto make_owner = [&](const Lease& lease) {
    return it.owners()
        .make(lease, {.kind = OwnerKind::kObject, .words = {0, machine().self().value, ++serial}})
        .value();
  };
  const auto put = [&](const Lease& lease, const Owner& owner, int content, uint64_t flags) {
    std::vector<unsigned char> value(kSize, static_cast<unsigned char>(content));
    return error_of(it.update(lease, owner, value.data(), flags));
  };
  std::mt19937 random(3);
  for (uint64_t round = 0, rounds = testing::repeats(40); round < rounds; ++round) {
    Owner victim;
    const void* place = nullptr;
    {
      const Lease lease(machine());
      victim = make_owner(lease);
      ASSERT_EQ(put(lease, victim, 1, BPF_ANY), 0);
      place = it.get(lease, victim);
    }
    SharedPage<std::atomic<uint64_t>> writes;
    Child writer([&] {
      for (;; ++*writes) {
        const Lease lease(machine());
        if (put(lease, victim, 2, BPF_F_LOCK) != 0) return false;
      }
    });
    const uint64_t until = 1 + random() % 20;
    ASSERT_TRUE(eventually([&] { return writes->load() >= until; }));
    writer.kill_and_wait();
    std::vector<Owner> others;
    {
      const Lease lease(machine());
      ASSERT_EQ(error_of(it.erase(lease, victim)), 0);
      ASSERT_TRUE(it.owners().destroy(lease, victim.number));
    }
    ASSERT_TRUE(eventually([&] {
      const Lease lease(machine());
      others.push_back(make_owner(lease));
      EXPECT_EQ(put(lease, others.back(), 3, BPF_ANY), 0);
      return it.get(lease, others.back()) == place || others.size() > 100;
    }));
    for (const Owner& other : others) {
      const Lease lease(machine());
      auto* value = static_cast<unsigned char*>(it.get(lease, other));
      ASSERT_NE(value, nullptr);
      it.settle(lease, value);
      EXPECT_TRUE(std::all_of(value, value + kSize - 4, [](unsigned char byte) { return byte == 3; })) << round;
      ASSERT_TRUE(it.owners().destroy(lease, other.number));
    }
  }
  EXPECT_EQ(it.check().problem, "");
}

}  // namespace
}  // namespace skep
