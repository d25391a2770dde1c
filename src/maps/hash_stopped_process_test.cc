// SPDX-License-Identifier: Apache-2.0
//
// Processes that are stopped in the middle of changing a hash map: whoever needs what they hold is told so after a
// while, and when they go on or die the map is whole.

#include "maps/hash_crash_support.h"

#include <functional>
#include <memory>
#include <thread>

namespace skep {
namespace {

using testing::colliding;
using testing::Content;
using testing::content_of;
using testing::hash;
using testing::key_of;
using testing::put_colliding;
using testing::put_first;
using testing::Subject;

/// Two processes and their map: one stops at a crash point, the other goes on changing the map.
class StoppedWriter {
 public:
  static constexpr uint64_t kFirst = 1'000'000;  // of the keys that the other one has put

  StoppedWriter(std::unique_ptr<Map> map, Machine& machine, int point, uint64_t key = 500'000) : map_(std::move(map)) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    EXPECT_EQ(pipe(go_), 0);
    changer_ = fork();
    if (changer_ == 0) _exit(change(machine, ready[1]));
    char byte;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    stopped_ = fork();
    if (stopped_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const Lease lease(machine);
      testing::crash_signal = SIGSTOP;
      testing::crash_countdown = point;
      const Subject subject{*map_, lease};
      subject.put(key, 2);
      _exit(0);
    }
    int status;
    waitpid(stopped_, &status, WUNTRACED);
    if (!WIFSTOPPED(status)) stopped_ = -1;
    for (const int fd : {ready[0], ready[1]}) close(fd);
    EXPECT_EQ(write(go_[1], "g", 1), 1);
  }
  StoppedWriter(const StoppedWriter&) = delete;
  StoppedWriter& operator=(const StoppedWriter&) = delete;
  ~StoppedWriter() {
    int status;
    waitpid(changer_, &status, 0);
    EXPECT_TRUE(WIFEXITED(status)) << "somebody waits forever for a stopped writer";
    EXPECT_TRUE(!WIFEXITED(status) || WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == ETIMEDOUT);
    if (stopped_ > 0) {
      kill(stopped_, SIGCONT);
      waitpid(stopped_, &status, 0);
    }
    for (const int fd : go_) close(fd);
    EXPECT_EQ(map_->check().problem, "");
  }

 private:
  /// Replaces and erases until it is told that it would have to wait, or until nothing is left.
  int change(Machine& machine, int ready) {
    constexpr unsigned kLimit = 30;  // seconds, for two operations that are given up after five
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Lease lease(machine);
    const Subject subject{*map_, lease};
    put_colliding(subject, 12);
    for (uint64_t i = 0; i < 60; ++i) subject.put(kFirst + i, 1);
    char byte;
    if (write(ready, "r", 1) != 1 || read(go_[0], &byte, 1) != 1) return 1;
    alarm(kLimit);
    int error = subject.erase(colliding(11));
    for (uint64_t i = 1; i < 60 && error == 0; ++i) error = subject.put(kFirst + i, 3);
    for (uint64_t i = 1; i < 60 && error == 0; ++i) error = subject.erase(kFirst + i);
    return error;
  }

  std::unique_ptr<Map> map_;
  int go_[2] = {-1, -1};
  pid_t changer_ = -1, stopped_ = -1;
};

/// A process that stops at its first crash point while it has the pool lock of a map.
class PoolHolder {
 public:
  PoolHolder(Map& map, Machine& machine, uint64_t key) {
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const Lease lease(machine);
      testing::crash_signal = SIGSTOP;
      testing::crash_word = &control(map).pool.lock;
      testing::crash_value = lease.slot() + 1;
      testing::crash_countdown = 1;
      const Subject subject{map, lease};
      subject.put(key, 2);
      _exit(testing::crash_countdown);
    }
    int status;
    waitpid(child_, &status, WUNTRACED);
    EXPECT_TRUE(WIFSTOPPED(status)) << "it did not need the pool lock";
  }
  PoolHolder(const PoolHolder&) = delete;
  PoolHolder& operator=(const PoolHolder&) = delete;
  ~PoolHolder() { end(SIGKILL); }

  /// Lets it go on, or die.
  void end(int signal) {
    if (child_ > 0) {
      kill(child_, signal);
      waitpid(child_, nullptr, 0);
    }
    child_ = -1;
  }

  static HashControl& control(Map& map) {
    return *reinterpret_cast<HashControl*>(map.segments().control.data() + kControlOffset);
  }

 private:
  pid_t child_ = -1;
};

uint32_t bucket_of(uint64_t number, uint32_t buckets) {
  const uint64_t zero[4] = {};
  return static_cast<uint32_t>(KeyHash(KeyHash::best(), zero).of<8>(&number, 8)) & (buckets - 1);
}
/// The first number from `number` on whose bucket is not that of `other`.
uint64_t elsewhere(uint64_t number, uint64_t other, uint32_t buckets = 8) {
  while (bucket_of(number, buckets) == bucket_of(other, buckets)) ++number;
  return number;
}

class HashStoppedTest : public testing::MapTest {
 protected:
  /// Runs `scenario` twice at once: the stopped process goes on in the end, or dies.
  void for_both_ends(const MapSpec& spec, const std::function<void(Map&, int signal)>& scenario) {
    std::vector<std::unique_ptr<Map>> maps;
    std::vector<std::thread> threads;
    for (const int signal : {SIGCONT, SIGKILL}) {
      Map& map = *maps.emplace_back(make(spec));
      threads.emplace_back([&map, &scenario, signal] { scenario(map, signal); });
    }
    for (auto& thread : threads) thread.join();
    for (const auto& map : maps) EXPECT_EQ(map->check().problem, "");
  }
};

/// The keys and values of a batch; a key that comes twice fails the test.
struct Taken final : BatchSink {
  explicit Taken(const Map& map) : key_size(map.spec().key_size), value_size(map.user_value_size()) {}
  bool put(const void* keys, const void* values, uint32_t count) override {
    for (uint32_t i = 0; i < count; ++i) {
      const std::string key(static_cast<const char*>(keys) + i * key_size, key_size);
      const std::string value(static_cast<const char*>(values) + i * value_size, value_size);
      EXPECT_TRUE(content.emplace(key, value).second) << "taken twice";
    }
    return true;
  }
  const uint64_t key_size, value_size;
  Content content;
};

TEST_F(HashStoppedTest, BatchDeliversWhatItErasedBeforeItGaveUp) {
  static constexpr uint64_t kKeys = 40;
  colliding(kKeys);
  for_both_ends(hash(8, 64), [this](Map& map, int signal) {
    const Lease lease(machine());
    const Subject subject{map, lease};
    put_colliding(subject, kKeys);
    const Content before = content_of(map);
    PoolHolder holder(map, machine(), elsewhere(2'000'000, colliding(0)));
    // All in one go, or by virtual buckets.
    const uint32_t capacity = signal == SIGCONT ? UINT32_MAX : kKeys - 1;
    Taken taken(map);
    uint32_t cursor = 0;
    const BatchResult result = map.take_batch(lease, nullptr, &cursor, capacity, 0, taken);
    EXPECT_EQ(result.error, ETIMEDOUT);
    EXPECT_EQ(result.count, taken.content.size());
    EXPECT_GT(result.count, 0U);
    EXPECT_LT(result.count, kKeys);
    Content all = content_of(map);
    for (const auto& element : taken.content) EXPECT_TRUE(all.insert(element).second) << "taken, and still there";
    EXPECT_EQ(all, before);

    holder.end(signal);
    EXPECT_EQ(map.take_batch(lease, &cursor, &cursor, UINT32_MAX, 0, taken).error, ENOENT);
    taken.content.erase(key_of(elsewhere(2'000'000, colliding(0)), 8));  // the holder's, if it came to that
    EXPECT_EQ(taken.content, before);
    EXPECT_TRUE(content_of(map).empty());
  });
}

TEST_F(HashStoppedTest, LargeValueIsReplacedWhollyOrNot) {
  for_both_ends(hash(5000, 16), [this](Map& map, int signal) {
    const Lease lease(machine());
    const Subject subject{map, lease};
    put_first(subject, 16);
    PoolHolder holder(map, machine(), 3);
    const Content before = content_of(map);
    EXPECT_EQ(subject.put(elsewhere(4, 3, 2), 7), ETIMEDOUT);
    EXPECT_EQ(content_of(map), before);
    holder.end(signal);
    EXPECT_EQ(subject.put(0, 7), 0);
    EXPECT_EQ(subject.put(3, 7), 0);
    EXPECT_EQ(content_of(map).size(), 16U);
  });
}

TEST_F(HashStoppedTest, ChainsShrinkAndGrowByTheBucketThatASlotKeeps) {
  colliding(40);
  for_both_ends(hash(8, 64), [this](Map& map, int signal) {
    const Lease lease(machine());
    const Subject subject{map, lease};
    put_colliding(subject, 22);  // one bucket and two more
    PoolHolder holder(map, machine(), elsewhere(2'000'000, colliding(0)));
    for (uint64_t i = 21; i >= 19; --i) EXPECT_EQ(subject.erase(colliding(i)), 0);   // gives one bucket up
    for (uint64_t i = 19; i <= 21; ++i) EXPECT_EQ(subject.put(colliding(i), 1), 0);  // and has it again
    uint64_t left = 22;
    int error = 0;
    while (error == 0 && left > 0) {
      error = subject.erase(colliding(left - 1));
      left -= error == 0;
    }
    EXPECT_EQ(error, ETIMEDOUT) << "there is no room for a second bucket in the journal";
    EXPECT_EQ(content_of(map).size(), left);
    EXPECT_GT(left, 8U);
    holder.end(signal);
    for (uint64_t i = left; i < 40; ++i) EXPECT_EQ(subject.put(colliding(i), 1), 0);
    for (uint64_t i = 0; i < 40; ++i) EXPECT_EQ(subject.erase(colliding(i)), 0);
    EXPECT_LE(content_of(map).size(), 1U);
  });
}

TEST_F(HashStoppedTest, InsertThatFailsKeepsItsBucket) {
  colliding(20);
  for_both_ends(hash(8, 64), [this](Map& map, int signal) {
    const Lease lease(machine());
    const Subject subject{map, lease};
    put_colliding(subject, 12);
    for (uint64_t i = 11; i >= 9; --i) EXPECT_EQ(subject.erase(colliding(i)), 0);  // its overflow bucket is at hand
    for (uint64_t i = 9; i < 11; ++i) EXPECT_EQ(subject.put(colliding(i), 1), 0);
    const auto& own = reinterpret_cast<const HashMagazine*>(
        map.segments().control.data() + HashLayout::of(map.spec(), machine().shape(), false)->magazines)[lease.slot()];
    uint64_t others = 0;
    for (uint64_t key = 1'000'000; own.count.load() > 0; ++key, ++others) {
      key = elsewhere(key, colliding(0));
      EXPECT_EQ(subject.put(key, 1), 0);
    }
    PoolHolder holder(map, machine(), elsewhere(2'000'000, colliding(0)));
    EXPECT_EQ(subject.put(colliding(11), 1), ETIMEDOUT);
    EXPECT_EQ(content_of(map).size(), 11 + others);
    holder.end(signal);
    EXPECT_EQ(subject.put(colliding(11), 1), 0);
    EXPECT_GE(content_of(map).size(), 12 + others);
  });
}

TEST_F(HashStoppedTest, NobodyWaitsForeverForAStoppedWriter) {
  std::vector<std::unique_ptr<StoppedWriter>> pairs;
  for (const int point : {3, 5, 6, 8, 12, 17, 40, 50}) {  // behind the guard, which maps without an id share
    pairs.push_back(std::make_unique<StoppedWriter>(make(hash(8, 200)), machine(), point));
  }
  for (const int point : {4, 6, 8, 9, 10, 11, 12, 13, 14, 15}) {  // in every step of a large value's replacement
    pairs.push_back(std::make_unique<StoppedWriter>(make(hash(5000, 200)), machine(), point, StoppedWriter::kFirst));
  }
}

TEST_F(HashStoppedTest, StoppedRepairerIsNotWaitedForForever) {
  auto map = make(hash(8, 200));
  const pid_t repairer = fork();
  if (repairer == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Lease lease(machine(), Lease::Cpu{1});
    testing::crash_signal = SIGSTOP;
    testing::crash_countdown = 1;  // in the guard, as it enters the slot
    const Subject subject{*map, lease};
    subject.put(2, 1);
    _exit(0);
  }
  int status;
  waitpid(repairer, &status, WUNTRACED);
  ASSERT_TRUE(WIFSTOPPED(status));
  const pid_t waiter = fork();
  if (waiter == 0) {
    alarm(20);
    const Lease lease(machine(), Lease::Cpu{0});
    const Subject subject{*map, lease};
    _exit(subject.put(77, 1));
  }
  waitpid(waiter, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == ETIMEDOUT) << status;
  kill(repairer, SIGCONT);
  waitpid(repairer, &status, 0);
  EXPECT_EQ(map->check().problem, "");
  EXPECT_EQ(content_of(*map).size(), 1U);
}

}  // namespace
}  // namespace skep
