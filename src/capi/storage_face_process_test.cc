// SPDX-License-Identifier: Apache-2.0
// Owners and processes: references that others use, forked owners, and objects whose process is killed.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

class StorageFaceProcessTest : public testing::InstanceTest {
 protected:
  using Numbers = ObjectStorage<uint64_t>;

  template <class Body>
  static pid_t spawn(const Body& body) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      body();
      _exit(HasFailure() ? 1 : 0);
    }
    return child;
  }
  static int wait_for(pid_t child) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status;
  }
  Numbers make() { return std::move(*Numbers::create(instance(), {.name = "numbers"})); }
  static uint64_t count(const Numbers& map) {
    return map.for_each([](const StorageOwner&, const uint64_t&) {}).value();
  }
};

TEST_F(StorageFaceProcessTest, AReferenceMeansTheSameInEveryProcess) {
  auto map = make();
  std::optional<Owner> object(std::in_place, instance());
  ASSERT_TRUE(map.insert(*object, 7).value());
  const OwnerReference reference = object->reference();
  EXPECT_EQ(wait_for(spawn([&] {
              const auto own = Instance::open(directory_);
              ASSERT_TRUE(own);
              auto same = Numbers::open_id(*own, map.id());
              ASSERT_TRUE(same) << same.error().message;
              EXPECT_EQ(same->get(reference).value(), 7U);
              EXPECT_TRUE(same->assign(reference, 8).value());
            })),
            0);
  EXPECT_EQ(map.get(*object).value(), 8U);
  object.reset();
  EXPECT_EQ(wait_for(spawn([&] { EXPECT_EQ(map.get(reference).value(), std::nullopt); })), 0);
}

TEST_F(StorageFaceProcessTest, AForkedOwnerLeavesTheParentsObjectAlone) {
  auto map = make();
  std::optional<Owner> object(std::in_place, instance());
  ASSERT_TRUE(map.insert(*object, 7).value());
  EXPECT_EQ(wait_for(spawn([&] {
              EXPECT_EQ(map.get(*object).value(), 7U);
              object.reset();
              Owner own(instance());
              ASSERT_TRUE(map.insert(own, 9).value());
              EXPECT_EQ(count(map), 2U);
            })),
            0);
  EXPECT_EQ(map.get(*object).value(), 7U);
}

TEST_F(StorageFaceProcessTest, AKilledProcessLeavesNoObjectsBehind) {
  auto map = make();
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  constexpr int kObjects = 50;
  const pid_t child = spawn([&] {
    std::vector<Owner> objects;
    for (int i = 0; i < kObjects; ++i) {
      objects.emplace_back(instance());
      ASSERT_TRUE(map.insert(objects.back(), 1).value());
    }
    ASSERT_EQ(write(ready[1], "", 1), 1);
    pause();
  });
  close(ready[1]);
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  EXPECT_EQ(count(map), static_cast<uint64_t>(kObjects));
  kill(child, SIGKILL);
  EXPECT_TRUE(WIFSIGNALED(wait_for(child)));
  // Each new owner looks at two old ones: who goes on using owners clears up after the dead.
  for (int i = 0; i < 100 * kObjects && count(map) != 0; ++i) {
    Owner object(instance());
    ASSERT_TRUE(object.attach());
  }
  EXPECT_EQ(count(map), 0U);
}

}  // namespace
}  // namespace skep
