// SPDX-License-Identifier: Apache-2.0
//
// LRU maps with long chains, whose elements are evicted by processes that die or stop, and repaired by processes that
// die as well.

#include "maps/hash_crash_support.h"

#include "maps/lru_map.h"
#include "maps/lru_test_support.h"

namespace skep {
namespace {

using testing::colliding;
using testing::kLru;
using testing::LruShape;

constexpr LruShape kSmall{"Small", kLru, 8, 16, 64, BPF_F_ZERO_SEED};
constexpr uint32_t kBuckets = 16;
constexpr uint64_t kChain = 34;  // four buckets
constexpr uint64_t kFresh = 1'000'000;

class LruCrashTest : public testing::LruTest {
 protected:
  static bool collides(uint64_t k) {
    static const uint64_t zero[4] = {};
    const KeyHash hash_of_zero(KeyHash::best(), zero);
    const auto bucket = [&](uint64_t number) { return hash_of_zero.of<8>(&number, 8) & (kBuckets - 1); };
    return bucket(k) == bucket(colliding(0, kBuckets));
  }
  /// The i-th fresh key that is in another chain than the long one.
  static uint64_t elsewhere(uint64_t i) {
    uint64_t k = kFresh;
    for (;; ++k) {
      if (!collides(k) && i-- == 0) return k;
    }
  }
  /// A full map with one long chain, whose elements are the first to go.
  void fill_with_chain() {
    make_lru(kSmall);
    const Lease lease(machine(), Lease::Cpu{0});
    for (uint64_t i = 0; i < kChain; ++i) ASSERT_EQ(put(lease, colliding(i, kBuckets)), 0);
    for (uint64_t k = 2 * kFresh, n = kChain; n < entries_; ++k) {
      if (collides(k)) continue;
      ASSERT_EQ(put(lease, k), 0);
      ++n;
    }
    ASSERT_EQ(check_content(), entries_);
  }
  /// Stores a value of a key that is there, unless somebody has its chain.
  bool put_if_free(const Lease& lease, uint64_t k) {
    const auto layout = *HashLayout::of(map_->spec(), machine().shape(), shape_.type == testing::kLruPerCpu);
    const KeyHash hash(KeyHash::best(), map_->header().hash_seed);
    const auto* buckets = reinterpret_cast<const Bucket*>(map_->segments().control.data() + layout.bucket_table);
    const Bucket& head = buckets[hash.of<8>(&k, 8) & (layout.buckets - 1)];
    return Bucket::holder(head.word) == 0 && put(lease, k, BPF_EXIST, 2) == 0;
  }
  /// How a child ended that did `operation` under a crash point.
  template <class Operation>
  int in_child(int point, const Operation& operation) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      alarm(60);
      testing::crash_countdown = point;
      operation();
      testing::crash_countdown = 0;
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
};

TEST_F(LruCrashTest, EvictionsFromAChainAndTheirRepairs) {
  for (uint64_t k = 0; k < kChain; ++k) colliding(k, kBuckets);
  int end = SIGKILL;
  int point = 1;
  for (; end == SIGKILL; ++point) {
    SCOPED_TRACE("crash point " + std::to_string(point));
    ASSERT_NO_FATAL_FAILURE(fill_with_chain());
    end = in_child(point, [&] {
      const Lease lease(machine(), Lease::Cpu{1 % machine().cpus()});
      for (uint64_t i = 0; i < 16; ++i) put(lease, elsewhere(i), BPF_ANY, 2);
    });
    // Two repairers die as well, one who needs the chain and one who checks the map.
    in_child(point * 7 % 31 + 1, [&] {
      const Lease lease(machine(), Lease::Cpu{0});
      erase(lease, colliding(kChain - 1, kBuckets));
    });
    in_child(point * 5 % 23 + 1, [&] { static_cast<void>(map_->check()); });
    EXPECT_GE(check_content() + slack() + 4, entries_);
    ASSERT_NO_FATAL_FAILURE(expect_full_use());
    if (HasFailure()) return;
    map_.reset();
    close(files_.back());
    files_.pop_back();
  }
  EXPECT_EQ(end, 0);
  EXPECT_GT(point, 150) << "there are no crash points";
}

// A writer that is stopped with victims in its hands leaves those alone whose values were stored meanwhile.
TEST_F(LruCrashTest, VictimsThatWereChangedMeanwhile) {
  bool stopped = true;
  int point = 1;
  for (; stopped; ++point) {
    SCOPED_TRACE("stop point " + std::to_string(point));
    make_lru({"PerCpu", testing::kLruPerCpu, 8, 16, 256, 0});
    const Lease lease(machine(), Lease::Cpu{0});
    for (uint64_t k = 0; k < entries_; ++k) ASSERT_EQ(put(lease, k), 0);
    const pid_t writer = fork();
    if (writer == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const Lease own(machine(), Lease::Cpu{1 % machine().cpus()});
      testing::crash_signal = SIGSTOP;
      testing::crash_countdown = point;
      _exit(put(own, kFresh));
    }
    int status = 0;
    waitpid(writer, &status, WUNTRACED);
    stopped = WIFSTOPPED(status);
    std::vector<uint64_t> stored;
    for (uint64_t k = 0; k < entries_ / 2; ++k) {
      // Nobody waits here for what the writer has locked.
      if (stopped && put_if_free(lease, k)) stored.push_back(k);
    }
    if (stopped) {
      kill(writer, SIGCONT);
      waitpid(writer, &status, 0);
    }
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (const uint64_t k : stored) EXPECT_EQ(look(k), Found::kWhole) << k;
    EXPECT_TRUE(!stopped || stored.size() + 20 > entries_ / 2);
    ASSERT_EQ(look(kFresh), Found::kWhole);
    if (HasFailure()) return;
    map_.reset();
    close(files_.back());
    files_.pop_back();
  }
  EXPECT_GT(point, 60) << "there are no stop points";
}

// A process that stops, or dies, while it frees an element holds up those who need its chain, and nobody else.
class LruCrashOwnerTest : public LruCrashTest, public ::testing::WithParamInterface<int> {};

TEST_P(LruCrashOwnerTest, HoldsUpNobodyElsewhere) {
  ASSERT_NO_FATAL_FAILURE(fill_with_chain());
  const auto layout = *HashLayout::of(map_->spec(), machine().shape(), false);
  const uint32_t cpu = 1 % machine().cpus();
  HashMagazine& magazine = reinterpret_cast<HashMagazine*>(map_->segments().control.data() + layout.magazines)[cpu];
  const pid_t owner = fork();
  if (owner == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Lease lease(machine(), Lease::Cpu{cpu});
    erase(lease, colliding(0, kBuckets));
    testing::crash_signal = GetParam();
    testing::crash_word = &magazine.lock;
    testing::crash_value = cpu + 1;
    testing::crash_countdown = 1;
    erase(lease, colliding(1, kBuckets));
    _exit(0);
  }
  int status = 0;
  waitpid(owner, &status, WUNTRACED);
  ASSERT_FALSE(WIFEXITED(status));
  {
    const Lease lease(machine(), Lease::Cpu{0});
    for (uint64_t i = 0; i < 3 * entries_; ++i) {
      ASSERT_EQ(put(lease, elsewhere(i), BPF_NOEXIST), 0) << i;
      ASSERT_EQ(look(elsewhere(i)), Found::kWhole) << i;
      ASSERT_TRUE(GetParam() == SIGSTOP || magazine.lock == 0) << "the first one who needs room repairs the magazine";
    }
  }
  if (GetParam() == SIGSTOP) {
    kill(owner, SIGCONT);
    waitpid(owner, &status, 0);
    EXPECT_TRUE(WIFEXITED(status));
  }
  check_content();
  expect_full_use();
}

INSTANTIATE_TEST_SUITE_P(Ends, LruCrashOwnerTest, ::testing::Values(SIGSTOP, SIGKILL),
                         [](const auto& end) { return end.param == SIGSTOP ? "Stopped" : "Dead"; });

}  // namespace
}  // namespace skep
