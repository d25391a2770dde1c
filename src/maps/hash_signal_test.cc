// SPDX-License-Identifier: Apache-2.0
//
// Signal handlers that change the hash map whose change they interrupt, at every point of it: they may be told EDEADLK,
// but they end, and the map is whole.

#include "maps/hash_crash_support.h"

#include <functional>

#include "maps/lru_map.h"

namespace skep {
namespace {

using testing::colliding;
using testing::content_of;
using testing::hash;
using testing::Subject;

class HashSignalTest : public testing::MapTest {
 protected:
  using Act = std::function<void(const Subject&)>;
  static constexpr unsigned kLimit = 60;  // seconds, for what takes milliseconds

  void SetUp() override {
    MapTest::SetUp();
    struct sigaction action = {};
    action.sa_handler = [](int) { current_->handle(); };
    ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
    current_ = this;
  }
  void TearDown() override {
    alarm(0);
    testing::crash_countdown = 0;
    testing::crash_signal = SIGKILL;
    signal(SIGUSR1, SIG_DFL);
    MapTest::TearDown();
  }

  /// Runs `operation` once for each of its points, in each of which `interruption` runs under a lease of its own: the
  /// same slot, and a CPU besides.
  void interrupt_everywhere(const MapSpec& spec, const Act& prepare, const Act& operation, const Act& interruption) {
    interruption_ = &interruption;
    for (const bool on_cpu : {false, true}) {
      on_cpu_ = on_cpu;
      int point = 1;
      for (interrupted_ = true; interrupted_; ++point) {
        SCOPED_TRACE("point " + std::to_string(point) + (on_cpu ? ", on a CPU" : ""));
        alarm(kLimit);
        const auto map = make(spec);
        map_ = map.get();
        {
          const Lease lease(machine());
          const Subject subject{*map, lease};
          prepare(subject);
          interrupted_ = false;
          testing::crash_signal = SIGUSR1;
          testing::crash_countdown = point;
          operation(subject);
          testing::crash_countdown = 0;
        }
        EXPECT_EQ(map->check().problem, "");
        content_of(*map);
        close(files_.back());
        files_.pop_back();
        if (HasFailure()) return;
      }
      EXPECT_GT(point, 5) << "there are no points";
    }
  }

  static void expect_end(int error) {
    if (error == E2BIG || error == ENOENT || error == EDEADLK) error = 0;
    EXPECT_EQ(error, 0);
  }

 private:
  void handle() {
    interrupted_ = true;
    if (on_cpu_) {
      const Lease lease(machine(), Lease::Cpu{1 % machine().cpus()});
      (*interruption_)({*map_, lease});
    } else {
      const Lease lease(machine());
      (*interruption_)({*map_, lease});
    }
  }

  inline static HashSignalTest* current_ = nullptr;
  const Act* interruption_ = nullptr;
  Map* map_ = nullptr;
  bool on_cpu_ = false, interrupted_ = false;
};

constexpr uint64_t kFresh = 1'000'000;

TEST_F(HashSignalTest, Hash) {
  for (const uint32_t value_size : {8U, 2000U}) {
    interrupt_everywhere(
        hash(value_size, 64), [](const Subject& s) { testing::put_colliding(s, 21); },
        [](const Subject& s) {
          expect_end(s.put(colliding(21), 2));
          expect_end(s.put(colliding(3), 2));
          for (uint64_t i = 21; i >= 19; --i) expect_end(s.erase(colliding(i)));
          for (uint64_t k = 0; k < 16; ++k) expect_end(s.put(k, 2));
        },
        [](const Subject& s) {
          for (uint64_t k = 0; k < 20; ++k) expect_end(s.put(kFresh + k, 3));
          expect_end(s.put(colliding(5), 3));
          for (uint64_t k = 0; k < 17; ++k) expect_end(s.erase(kFresh + k));
        });
  }
}

MapSpec lru(uint32_t max_entries, uint32_t type = BPF_MAP_TYPE_LRU_HASH) { return hash(8, max_entries, 0, type); }

TEST_F(HashSignalTest, LruInsertsDuringInserts) {
  interrupt_everywhere(
      lru(1024), [](const Subject& s) { testing::put_first(s, 1024); },
      [](const Subject& s) {
        for (uint64_t k = 0; k < 3; ++k) expect_end(s.put(kFresh + k, 2));
      },
      [](const Subject& s) {
        for (uint64_t k = 100; k < 130; ++k) expect_end(s.put(kFresh + k, 3));
      });
}

TEST_F(HashSignalTest, LruErasesDuringInserts) {
  interrupt_everywhere(
      lru(1024), [](const Subject& s) { testing::put_first(s, 1024); },
      [](const Subject& s) {
        for (uint64_t k = 0; k < 3; ++k) expect_end(s.put(kFresh + k, 2));
      },
      [](const Subject& s) {
        for (uint64_t k = 500; k < 527; ++k) expect_end(s.erase(k));  // a magazine full of elements
      });
}

}  // namespace
}  // namespace skep
