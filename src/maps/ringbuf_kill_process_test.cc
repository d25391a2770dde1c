// SPDX-License-Identifier: Apache-2.0
// Producers that die: at every store of a reserve and a submit, which are compiled into this test with points that
// kill, and at random moments, with every record counted.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine/crash_countdown.h"

#include <chrono>
#include <random>

#include "maps/ringbuf_test_support.h"

// Behind the header above, which wants the open() of libc.
#include "maps/ringbuf_map.cc"  // NOLINT

namespace skep {
namespace {

using testing::RingbufReader;
using testing::RingbufTest;
using testing::StampedRecord;

class RingbufKillTest : public RingbufTest {
 protected:
  template <class Body>
  static pid_t spawn(const Body& body) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      body();
      _exit(0);
    }
    return child;
  }
  static bool killed(pid_t child) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status);
  }
};

// Whatever a producer was doing when it died: nobody waits, what was submitted is there, and the ring goes on.
TEST_F(RingbufKillTest, DeathAtEveryStore) {
  for (const bool consumer_helps : {false, true}) {
    auto map = ring(4096);
    bool died = true;
    for (int point = 1; died; ++point) {
      SCOPED_TRACE(point);
      ASSERT_LT(point, 100);
      RingbufReader reader(map->area());
      uint64_t expected;
      {
        const Lease lease(machine());
        std::byte* const before = map->reserve(lease, sizeof(StampedRecord));
        ASSERT_NE(before, nullptr);
        StampedRecord::write(before, 1, static_cast<uint64_t>(point), sizeof(StampedRecord));
        map->submit(before, 0);
        expected = map->query(BPF_RB_PROD_POS);
      }
      died = killed(spawn([&] {
        const Lease lease(machine());
        testing::crash_countdown = point;
        // Twice, the second one larger than what is prepared.
        for (const uint64_t size : {uint64_t{24}, uint64_t{1000}}) {
          std::byte* const record = map->reserve(lease, size);
          if (record == nullptr) _exit(7);
          StampedRecord::write(record, 2, static_cast<uint64_t>(point), static_cast<uint32_t>(size));
          map->submit(record, 0);
        }
      }));
      {
        const Lease lease(machine());
        std::byte* after = nullptr;
        if (consumer_helps) {
          map->help_consumer();
          reader.consume();
          map->help_consumer();
        } else {
          // A producer that wants more than is free finds the dead one's record in its way.
          while ((after = map->reserve(lease, 500)) != nullptr) map->discard(after, 0);
        }
        uint64_t records = reader.consume([&](const std::byte* data, uint32_t size) {
          StampedRecord head;
          EXPECT_TRUE(StampedRecord::read(data, size, head));
          EXPECT_EQ(head.stamp, static_cast<uint64_t>(point));
        });
        EXPECT_LE(records, 3u);
        EXPECT_EQ(map->query(BPF_RB_AVAIL_DATA), 0u) << "a dead record holds the consumer up";
        EXPECT_GE(map->query(BPF_RB_CONS_POS), expected);
        after = map->reserve(lease, 4000);
        ASSERT_NE(after, nullptr);
        map->discard(after, 0);
        reader.consume();
        EXPECT_EQ(map->check().problem, "");
      }
    }
  }
}

// Two wanted the same place and died, one before and one after the swap: the record is as long as the latter's, in
// whichever order they are found.
TEST_F(RingbufKillTest, TwoDeadWantOnePlace) {
  if (machine().cpus() < 2) GTEST_SKIP() << "needs two slots of programs";
  for (const int i : {0, 1, 2, 3, 4, 5}) {
    const uint32_t winner = static_cast<uint32_t>(i) % 2;
    const int finder = i / 2;
    for (const auto& [lost, won] : {std::pair<uint64_t, uint64_t>{24, 1000}, {1000, 24}}) {
      SCOPED_TRACE(::testing::Message() << "slot " << winner << " got " << won << " bytes, finder " << finder);
      auto map = ring(4096);
      {
        const Lease lease(machine(), Lease::Cpu{0});
        ASSERT_TRUE(map->output(lease, "first", 5, 0));
      }
      const auto die = [&](uint32_t slot, uint64_t size, int point) {
        return killed(spawn([&, slot] {
          const Lease lease(machine(), Lease::Cpu{slot});
          testing::crash_countdown = point;
          (void)map->reserve(lease, size);
        }));
      };
      // The first point is in make_room(), which a new tenant of a slot always visits.
      ASSERT_TRUE(die(1 - winner, lost, 2));
      ASSERT_TRUE(die(winner, won, 3));
      ASSERT_EQ(map->query(BPF_RB_PROD_POS), 16 + ringbuf::footprint(won));
      // Zeros look like records that end where the last one does.
      // Found by the next tenant of the winner's slot, of the loser's, and by a consumer.
      if (finder == 2) map->help_consumer();
      const Lease lease(machine(), Lease::Cpu{finder == 0 ? winner : 1 - winner});
      const std::string zeros(1000, '\0');
      ASSERT_TRUE(map->output(lease, zeros.data(), zeros.size(), 0));
      map->help_consumer();
      std::vector<uint32_t> sizes;
      RingbufReader reader(map->area());
      const auto note = [&](const std::byte*, uint32_t size) { sizes.push_back(size); };
      reader.consume(note);
      map->help_consumer();
      reader.consume(note);
      EXPECT_EQ(sizes, (std::vector<uint32_t>{5, 1000}));
      EXPECT_EQ(map->query(BPF_RB_AVAIL_DATA), 0u);
      EXPECT_EQ(map->check().problem, "");
    }
  }
}

// The dead one's last record was consumed long ago, and the room that it had is prepared for the next lap: a new tenant
// of its slot leaves that alone.
TEST_F(RingbufKillTest, OldIntentOfTheDead) {
  if (machine().cpus() < 2) GTEST_SKIP() << "needs two slots of programs";
  auto map = ring(4096);
  {
    const Lease lease(machine(), Lease::Cpu{0});
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(map->output(lease, "before", 6, 0));
  }
  EXPECT_FALSE(killed(spawn([&] {
    const Lease lease(machine(), Lease::Cpu{1});
    if (!map->output(lease, "first", 5, 0)) _exit(7);
    _exit(0);
  })));
  RingbufReader reader(map->area());
  {
    const Lease lease(machine(), Lease::Cpu{0});
    while (map->query(BPF_RB_PROD_POS) < 4090) {
      ASSERT_TRUE(map->output(lease, "more", 4, 0));
      reader.consume();
    }
  }
  ASSERT_EQ(map->query(BPF_RB_PROD_POS), 4096u);
  ASSERT_EQ(map->check().problem, "");
  const Lease lease(machine(), Lease::Cpu{1});
  ASSERT_TRUE(map->output(lease, "last", 4, 0));
  EXPECT_EQ(map->check().problem, "");
}

// Every record that was submitted before its producer died comes out, once and in order; at most the one in the making
// does not.
TEST_F(RingbufKillTest, EveryRecordCounted) {
  constexpr uint32_t kProducers = 3;
  constexpr int kKills = 60;
  auto map = ring(1 << 14);
  struct Progress {
    std::atomic<uint64_t> submitted[kProducers];
  };
  auto* const progress = static_cast<Progress*>(
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(progress, MAP_FAILED);
  const auto produce = [&](uint32_t id) {
    std::mt19937 random(id);
    for (uint64_t stamp = progress->submitted[id].load();;) {
      const auto length = static_cast<uint32_t>(sizeof(StampedRecord) + random() % 200);
      const Lease lease(machine());
      std::byte* const record = map->reserve(lease, length);
      if (record == nullptr) {
        sched_yield();
        continue;
      }
      StampedRecord::write(record, id, stamp, length);
      map->submit(record, 0);
      progress->submitted[id].store(++stamp);
    }
  };
  std::array<uint64_t, kProducers> next{};
  uint64_t wrong = 0;
  const auto note = [&](const std::byte* data, uint32_t size) {
    StampedRecord head;
    // The record that was submitted as its producer died, before that was noted, is written again by the next life.
    const bool right = StampedRecord::read(data, size, head) && head.producer < kProducers &&
                       (head.stamp == next[head.producer] || head.stamp + 1 == next[head.producer]);
    wrong += !right;
    if (right) next[head.producer] = head.stamp + 1;
  };
  RingbufReader reader(map->area());
  std::mt19937 random(3);
  std::array<pid_t, kProducers> children{};
  for (uint32_t id = 0; id < kProducers; ++id) children[id] = spawn([&] { produce(id); });
  for (int round = 0; round < kKills; ++round) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(500 + random() % 3000);
    while (std::chrono::steady_clock::now() < until) {
      if (reader.consume(note) == 0) map->help_consumer();
    }
    const auto victim = static_cast<uint32_t>(random() % kProducers);
    kill(children[victim], SIGKILL);
    ASSERT_TRUE(killed(children[victim]));
    children[victim] = spawn([&] { produce(victim); });
  }
  for (const pid_t child : children) {
    kill(child, SIGKILL);
    ASSERT_TRUE(killed(child));
  }
  for (int i = 0; i < 10 && map->query(BPF_RB_AVAIL_DATA) != 0; ++i) {
    map->help_consumer();
    reader.consume(note);
  }
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(map->query(BPF_RB_AVAIL_DATA), 0u) << "records of the dead hold the consumer up";
  for (uint32_t id = 0; id < kProducers; ++id) {
    EXPECT_GE(next[id], progress->submitted[id].load());
    EXPECT_LE(next[id], progress->submitted[id].load() + 1);
    EXPECT_GT(next[id], 0u);
  }
  EXPECT_EQ(map->check().problem, "");
  munmap(progress, sizeof(Progress));
}

}  // namespace
}  // namespace skep
