// SPDX-License-Identifier: Apache-2.0
// Drainers that die at any moment, between samples and inside the callback: every sample is drained, in order, and the
// one that a drainer died with is given to the next.
#include "maps/user_ringbuf_map.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "maps/ringbuf_test_support.h"

namespace skep {
namespace {

class DrainerKillTest : public testing::RingbufTest {
 protected:
  struct Progress {
    std::atomic<uint64_t> drained;   // samples that a callback has ended with
    std::atomic<uint64_t> repeated;  // samples that a callback got a second time
    std::atomic<uint64_t> wrong;
  };

  void SetUp() override {
    RingbufTest::SetUp();
    std::unique_ptr<Map> map = make(spec(BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 8192));
    map_.reset(static_cast<UserRingbufMap*>(map.release()));
    progress_ = static_cast<Progress*>(
        mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(progress_, MAP_FAILED);
  }
  void TearDown() override {
    munmap(progress_, sizeof(Progress));
    map_.reset();
    RingbufTest::TearDown();
  }

  /// Samples 0, 1, 2, ... while there is room; how many there are now.
  uint64_t put(uint64_t stamp) {
    const RingbufArea& area = map_->area();
    uint64_t position = area.producer().load();
    while (position + 16 - area.consumer().load(std::memory_order_acquire) <= area.size()) {
      std::memcpy(area.data(position), &stamp, sizeof stamp);
      area.header(position).store(sizeof stamp);
      area.producer().store(position += 16, std::memory_order_release);
      ++stamp;
    }
    return stamp;
  }

  int64_t drain(uint64_t die_at) {
    const Lease lease(machine());
    return map_->drain(lease, 0, [&](const UserRingbufMap::Sample& sample) {
      uint64_t stamp = UINT64_MAX;
      if (sample.size == sizeof stamp) std::memcpy(&stamp, sample.data, sizeof stamp);
      const uint64_t next = progress_->drained.load();
      if (stamp == next) {
        progress_->drained.store(next + 1);
      } else {
        (stamp + 1 == next ? progress_->repeated : progress_->wrong).fetch_add(1);
      }
      if (stamp == die_at) kill(getpid(), SIGKILL);
      return true;
    });
  }

  pid_t spawn(uint64_t die_at) {
    const pid_t child = fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) drain(die_at);
  }
  static void reap(pid_t child) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
  }

  std::unique_ptr<UserRingbufMap> map_;
  Progress* progress_ = nullptr;
};

TEST_F(DrainerKillTest, DeathInTheCallback) {
  ASSERT_EQ(put(0), 512u);
  reap(spawn(7));
  EXPECT_EQ(progress_->drained.load(), 8u);
  EXPECT_EQ(drain(UINT64_MAX), 505) << "from the sample on that its drainer died with";
  EXPECT_EQ(progress_->drained.load(), 512u);
  EXPECT_EQ(progress_->repeated.load(), 1u);
  EXPECT_EQ(progress_->wrong.load(), 0u);
}

TEST_F(DrainerKillTest, DeathAtAnyMoment) {
  constexpr uint64_t kKills = 60;
  std::mt19937 random(9);
  uint64_t stamps = 0;
  for (uint64_t kills = 0; kills < kKills; ++kills) {
    const pid_t child = spawn(UINT64_MAX);
    const uint64_t until = progress_->drained.load() + 200 + random() % 2000;
    while (progress_->drained.load() < until) stamps = put(stamps);
    kill(child, SIGKILL);
    reap(child);
  }
  while (map_->area().consumer().load() != map_->area().producer().load()) ASSERT_GT(drain(UINT64_MAX), 0);
  EXPECT_EQ(progress_->drained.load(), stamps);
  EXPECT_LE(progress_->repeated.load(), kKills);
  EXPECT_EQ(progress_->wrong.load(), 0u);
  EXPECT_EQ(map_->check().problem, "");
}

}  // namespace
}  // namespace skep
