// SPDX-License-Identifier: Apache-2.0
// Work that programs leave for the end of their run: in one process, and in fields that others share and die with.
#include "prog/task_work.h"

#include "prog/timers_test_support.h"

namespace skep {
namespace {

using testing::kValueSize;
using testing::TimersTest;

class TaskWorkTest : public TimersTest {
 protected:
  TaskWorkTest() { field_ = &ValueFields::task_work; }

  [[nodiscard]] TaskWork::Item item(uint32_t key) const {
    const TimerPlace at = place(key);
    return {.field = reinterpret_cast<TaskWorkField*>(at.field),
            .value = at.value,
            .map = at.map,
            .code = program_->code().shared_from_this(),
            .inner = nullptr,
            .function = callback_};
  }
  int64_t schedule(uint32_t key) { return work_.schedule(item(key), machine(), environment_); }
  void run_all() { work_.run_all(runner_, machine(), environment_); }

  TaskWork work_;
  Runner runner_;
};

TEST_F(TaskWorkTest, RunsOnceAndTheFieldIsFreeAgain) {
  make_map(BPF_MAP_TYPE_ARRAY, 2);
  EXPECT_EQ(schedule(0), 0);
  EXPECT_EQ(schedule(0), -EBUSY);
  EXPECT_EQ(schedule(1), 0);
  EXPECT_EQ(count(0), 0u);
  run_all();
  EXPECT_TRUE(work_.empty());
  EXPECT_EQ(count(0), 1u);
  EXPECT_EQ(count(1), 1u);
  EXPECT_EQ(item(0).field->load(), 0u);
  EXPECT_EQ(schedule(0), 0);
  run_all();
  EXPECT_EQ(count(0), 2u);
}

TEST_F(TaskWorkTest, AValueThatHasGoneIsLeftAlone) {
  make_map(BPF_MAP_TYPE_HASH, 2);
  EXPECT_EQ(schedule(0), 0);
  const std::array<std::byte, kValueSize> zeros{};
  const uint32_t key = 0;
  {
    const Lease lease(machine());
    ASSERT_TRUE(maps_[0]->erase(lease, &key));
    ASSERT_TRUE(maps_[0]->update(lease, &key, zeros.data(), 0));
  }
  EXPECT_EQ(schedule(0), 0) << "another value";
  run_all();
  EXPECT_EQ(count(0), 1u);
}

TEST_F(TaskWorkTest, TheLivingKeepTheirFieldAndTheDeadDoNot) {
  make_map(BPF_MAP_TYPE_HASH, 4);
  for (int round = 0; round < 20; ++round) {
    SharedPage<std::atomic<uint32_t>> turns(0u);
    Child child([&] {
      TaskWork never;
      if (never.schedule(item(3), machine(), environment_) != 0) return false;
      for (;; turns->fetch_add(1)) {
        for (uint32_t key = 0; key < 3; ++key) {
          if (schedule(key) != 0) return false;
        }
        run_all();
      }
    });
    ASSERT_TRUE(eventually([&] { return turns->load() > 20; }));
    EXPECT_EQ(schedule(3), -EBUSY);
    child.kill_and_wait();
    for (uint32_t key = 0; key < 4; ++key) {
      const uint64_t before = count(key);
      EXPECT_EQ(schedule(key), 0) << key;
      run_all();
      EXPECT_EQ(count(key), before + 1) << key;
    }
  }
  EXPECT_EQ(maps_[0]->check().problem, "");
}

}  // namespace
}  // namespace skep
