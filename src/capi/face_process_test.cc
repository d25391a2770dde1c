// SPDX-License-Identifier: Apache-2.0
// Handles and processes: fork, another process, and death.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

class FaceProcessTest : public testing::InstanceTest {
 protected:
  using Counts = HashMap<uint64_t, uint64_t>;

  template <class Body>
  static pid_t spawn(const Body& body) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that fails half-way leaves nobody behind
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
  Counts make() { return std::move(*Counts::create(instance(), {.name = "counts", .max_entries = 100})); }
};

TEST_F(FaceProcessTest, ForkedProcessesShareAHandle) {
  auto counts = make();
  ASSERT_TRUE(*counts.insert(0, 0));
  constexpr uint64_t kRounds = 2000;
  std::vector<pid_t> children;
  for (int n = 0; n < 3; ++n) {
    children.push_back(spawn([&] {
      for (uint64_t i = 0; i < kRounds; ++i) ASSERT_TRUE(*counts.update(0, [](uint64_t& count) { ++count; }));
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(counts.get(0), 3 * kRounds);
}

TEST_F(FaceProcessTest, AnotherProcessOpensByIdAndSeesTheSameMap) {
  auto counts = make();
  EXPECT_EQ(wait_for(spawn([&] {
              auto own = Instance::open(directory_);
              ASSERT_TRUE(own);
              auto same = Counts::open_id(*own, counts.id());
              ASSERT_TRUE(same) << same.error().message;
              ASSERT_TRUE(*same->insert(7, 49));
            })),
            0);
  EXPECT_EQ(counts.get(7), 49U);
}

// A map dies with the last process that has it, however that one ends; a pinned one stays.
TEST_F(FaceProcessTest, DeathEndsAHandle) {
  for (const bool pinned : {false, true}) {
    int ids[2];
    ASSERT_EQ(pipe2(ids, O_CLOEXEC), 0);
    const pid_t child = spawn([&] {
      auto own = Instance::open(directory_);
      auto counts = Counts::create(*own, {.name = "doomed", .max_entries = 10});
      ASSERT_TRUE(counts);
      ASSERT_TRUE(*counts->insert(1, 2));
      if (pinned) {
        ASSERT_TRUE(counts->pin("/sys/fs/bpf/doomed"));
      }
      const uint32_t id = counts->id();
      ASSERT_EQ(write(ids[1], &id, sizeof(id)), static_cast<ssize_t>(sizeof(id)));
      pause();
    });
    close(ids[1]);
    uint32_t id = 0;
    ASSERT_EQ(read(ids[0], &id, sizeof(id)), static_cast<ssize_t>(sizeof(id)));
    {
      const auto while_alive = Counts::open_id(instance(), id);
      ASSERT_TRUE(while_alive) << while_alive.error().message;
    }
    kill(child, SIGKILL);
    EXPECT_TRUE(WIFSIGNALED(wait_for(child)));
    const auto after = Counts::open_id(instance(), id);
    if (pinned) {
      ASSERT_TRUE(after) << after.error().message;
      EXPECT_EQ(after->get(1), 2U);
    } else {
      ASSERT_FALSE(after);
      EXPECT_EQ(after.error().code, ENOENT);
    }
    close(ids[0]);
  }
}

}  // namespace
}  // namespace skep
