// SPDX-License-Identifier: Apache-2.0
//
// Readers, writers, deleters, walkers and batch users of one map at once: in threads, and in processes that inherited
// its descriptor. Nothing torn, nothing lost, nothing twice; and the exact contents at the end.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "memory/test_repeats.h"
#include "shared_map.h"
#include "workload.h"

namespace skep::stress {
namespace {

[[maybe_unused]] const auto* const environment = ::testing::AddGlobalTestEnvironment(new TemporaryInstance);

constexpr uint32_t kWorkers = 4;
constexpr uint32_t kEntries = 300;
constexpr uint64_t kSteps = 400000;

struct ReportBoard {
  WorkerReport workers[kWorkers];
};

class SharingTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    map_ = all_kinds(kEntries)[static_cast<size_t>(GetParam())];
    map_.create();
    if (HasFatalFailure()) return;
    Worker::prepare(map_);
    void* memory = mmap(nullptr, sizeof(ReportBoard), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    board_ = new (memory) ReportBoard{};
  }
  void TearDown() override {
    if (board_ != nullptr) munmap(board_, sizeof(ReportBoard));
    if (map_.fd >= 0) close(map_.fd);
  }

  /// Runs one worker to its end and compares what it owns, exactly.
  void run_worker(uint32_t number) {
    WorkerReport& report = board_->workers[number];
    Worker worker(map_, number, kWorkers, number * 977 + 13, report);
    for (uint64_t step = 0; step < testing::repeats(kSteps) / kWorkers; ++step) worker.step();
    std::vector<unsigned char> value(map_.user_value_size());
    for (uint32_t key = 0; key < kEntries; ++key) {
      if (!worker.owns(key)) continue;
      const uint64_t nonce = worker.expected()[key];
      const int error = map_.lookup(key, value.data());
      uint64_t found;
      std::memcpy(&found, value.data(), 8);
      const bool right = nonce == 0 ? (map_.is_array() ? found == 0 : error == ENOENT) : (error == 0 && found == nonce);
      if (!right) report.lost.fetch_add(1);
    }
  }
  void expect_clean() {
    for (uint32_t i = 0; i < kWorkers; ++i) {
      const WorkerReport& report = board_->workers[i];
      EXPECT_GT(report.operations, 0u);
      EXPECT_EQ(report.torn, 0u) << map_.name << " worker " << i;
      EXPECT_EQ(report.lost, 0u) << map_.name << " worker " << i;
      EXPECT_EQ(report.duplicate, 0u) << map_.name << " worker " << i;
      EXPECT_EQ(report.unexpected, 0u) << map_.name << " worker " << i << ": "
                                       << strerror(static_cast<int>(report.first_error));
    }
    EXPECT_EQ(map_.check(), "");
  }

  SharedMap map_;
  ReportBoard* board_ = nullptr;
};

TEST_P(SharingTest, Threads) {
  {
    std::vector<std::jthread> threads;
    for (uint32_t i = 0; i < kWorkers; ++i) threads.emplace_back([this, i] { run_worker(i); });
  }
  expect_clean();
}

TEST_P(SharingTest, Processes) {
  std::vector<pid_t> children;
  for (uint32_t i = 0; i < kWorkers; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      run_worker(i);
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "a worker process ended with status " << status;
  }
  expect_clean();
}

std::string kind_name(const ::testing::TestParamInfo<int>& parameter) {
  return std::vector<std::string>{"Hash",  "HashNoPrealloc", "PerCpuHash", "PerCpuHashNoPrealloc",
                                  "Array", "PerCpuArray",    "Rhash"}[static_cast<size_t>(parameter.param)];
}

INSTANTIATE_TEST_SUITE_P(EveryKind, SharingTest, ::testing::Range(0, 7), kind_name);

}  // namespace
}  // namespace skep::stress
