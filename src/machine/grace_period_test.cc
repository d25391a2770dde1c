// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <memory>
#include <thread>

#include "machine/lease.h"
#include "machine/machine_test_support.h"
#include "machine/reader_section.h"

namespace skep {
namespace {

class GracePeriodTest : public testing::Test {
 protected:
  /// As if so many grace periods had come and gone; nothing is open.
  void set_epoch(uint32_t epoch) const {
    bytes_->epochs.epoch = epoch;
    bytes_->grace.fenced = epoch;
    bytes_->grace.completed = epoch;
  }

  TestDirectory directory_;
  std::shared_ptr<Machine> machine_ = open_machine(directory_);
  MachineBytes bytes_{directory_};
};

TEST_F(GracePeriodTest, ElapsesAtOnceWhenNothingIsOpen) {
  const auto epoch = machine_->begin_grace_period();
  EXPECT_TRUE(machine_->elapsed(epoch));
  machine_->synchronize();
}

TEST_F(GracePeriodTest, WaitsForLeasesThatWereOpen) {
  auto lease = std::make_unique<Lease>(*machine_);
  const auto epoch = machine_->begin_grace_period();
  EXPECT_FALSE(machine_->elapsed(epoch));
  EXPECT_FALSE(machine_->elapsed(epoch));
  lease.reset();
  EXPECT_TRUE(machine_->elapsed(epoch));
}

TEST_F(GracePeriodTest, WaitsForCpuLeasesInsideWriters) {
  auto writer = std::make_unique<Lease>(*machine_);
  const auto first = machine_->begin_grace_period();
  auto program = std::make_unique<Lease>(*machine_, Lease::Cpu{0});
  const auto second = machine_->begin_grace_period();
  program.reset();
  EXPECT_FALSE(machine_->elapsed(first));
  EXPECT_FALSE(machine_->elapsed(second));
  writer.reset();
  EXPECT_TRUE(machine_->elapsed(second));
}

TEST_F(GracePeriodTest, WaitsForReaderSectionsThatWereOpen) {
  auto outer = std::make_unique<ReaderSection>(*machine_);
  const auto epoch = machine_->begin_grace_period();
  auto inner = std::make_unique<ReaderSection>(*machine_);
  EXPECT_FALSE(machine_->elapsed(epoch));
  inner.reset();
  EXPECT_FALSE(machine_->elapsed(epoch));
  outer.reset();
  EXPECT_TRUE(machine_->elapsed(epoch));
}

TEST_F(GracePeriodTest, DoesNotWaitForWhatBeganLater) {
  const auto epoch = machine_->begin_grace_period();
  const Lease lease(*machine_);
  const ReaderSection section(*machine_);
  EXPECT_TRUE(machine_->elapsed(epoch));
  const auto later = machine_->begin_grace_period();
  EXPECT_TRUE(machine_->elapsed(epoch));
  EXPECT_FALSE(machine_->elapsed(later));
}

TEST_F(GracePeriodTest, SectionsOfOtherThreadsCount) {
  std::atomic<int> stage{0};
  std::thread reader([&] {
    const ReaderSection section(*machine_);
    stage = 1;
    eventually([&] { return stage.load() == 2; });
  });
  ASSERT_TRUE(eventually([&] { return stage.load() == 1; }));
  const auto epoch = machine_->begin_grace_period();
  EXPECT_FALSE(machine_->elapsed(epoch));
  stage = 2;
  EXPECT_TRUE(eventually([&] { return machine_->elapsed(epoch); }));
  reader.join();
}

TEST_F(GracePeriodTest, DeadProcessesHoldNothingBack) {
  const uint32_t old = bytes_->epochs.epoch.load();
  const uint32_t dead = ProcessTag::make(77, 3).value;
  bytes_->slots[1].word = uint64_t{dead} << 32 | old;
  bytes_->readers[9].owner = dead;
  bytes_->readers[9].active = old | 1;
  bytes_->counters.readers_used = 10;
  const auto epoch = machine_->begin_grace_period();
  EXPECT_TRUE(eventually([&] { return machine_->elapsed(epoch); }));
  EXPECT_EQ(bytes_->slots[1].word.load(), 0U);
  EXPECT_EQ(bytes_->readers[9].owner.load(), 0U);
}

TEST_F(GracePeriodTest, LeaseServesWhereAllRecordsAreTaken) {
  for (auto& record : bytes_->readers) record.owner = machine_->self().value;
  bytes_->counters.readers_used = kMaxReaders;
  std::thread([&] {
    auto outer = std::make_unique<ReaderSection>(*machine_);
    EXPECT_EQ(machine_->reader_record(), nullptr);
    const auto epoch = machine_->begin_grace_period();
    auto inner = std::make_unique<ReaderSection>(*machine_);
    inner.reset();
    EXPECT_FALSE(machine_->elapsed(epoch));
    outer.reset();
    EXPECT_TRUE(machine_->elapsed(epoch));
    // Records of the dead are found again.
    bytes_->readers[1234].owner = ProcessTag::make(55, 1).value;
    EXPECT_TRUE(eventually([&] {
      const ReaderSection section(*machine_);
      return machine_->reader_record() != nullptr;
    }));
  }).join();
}

TEST_F(GracePeriodTest, EpochsComeRound) {
  for (const uint32_t start : {0xfffffff0U, 0x7ffffff0U}) {
    set_epoch(start);
    for (int i = 0; i < 20; ++i) {
      auto lease = std::make_unique<Lease>(*machine_);
      auto section = std::make_unique<ReaderSection>(*machine_);
      const auto epoch = machine_->begin_grace_period();
      EXPECT_FALSE(machine_->elapsed(epoch)) << epoch;
      lease.reset();
      EXPECT_FALSE(machine_->elapsed(epoch)) << epoch;
      section.reset();
      EXPECT_TRUE(machine_->elapsed(epoch)) << epoch;
    }
  }
}

TEST_F(GracePeriodTest, EpochsOfLongAgoHaveElapsed) {
  const auto old = machine_->begin_grace_period();
  for (const uint32_t distance : {1U << 29, 1U << 30, 3U << 30, 0xf0000000U}) {
    set_epoch(old + distance);
    EXPECT_TRUE(machine_->elapsed(old)) << distance;
    const ReaderSection section(*machine_);
    EXPECT_TRUE(machine_->elapsed(old)) << distance;
  }
}

// A section that stays open for a very long time keeps the epoch from lapping it, and nothing that began after it is
// taken for elapsed.
TEST_F(GracePeriodTest, EpochWaitsForASectionThatIsVeryLate) {
  auto lease = std::make_unique<Lease>(*machine_);
  const auto first = machine_->begin_grace_period();
  EXPECT_FALSE(machine_->elapsed(first));
  bytes_->epochs.epoch = bytes_->grace.completed + (1U << 30);
  const uint32_t stuck = bytes_->epochs.epoch;
  const auto promised = machine_->begin_grace_period();
  const auto promised_again = machine_->begin_grace_period();
  EXPECT_EQ(promised, stuck + 2);
  EXPECT_EQ(promised_again, promised);
  EXPECT_EQ(bytes_->epochs.epoch.load(), stuck);
  EXPECT_FALSE(machine_->elapsed(first));
  EXPECT_FALSE(machine_->elapsed(promised));
  lease.reset();
  EXPECT_TRUE(machine_->elapsed(promised));
  EXPECT_TRUE(machine_->elapsed(first));
  EXPECT_EQ(machine_->begin_grace_period(), promised + 2);
}

TEST_F(GracePeriodTest, AnnouncementOfAWrappedEpochHoldsBack) {
  set_epoch(1000);
  bytes_->slots[0].word = uint64_t{machine_->self().value} << 32 | (1000 + (1U << 30));
  const auto epoch = machine_->begin_grace_period();
  EXPECT_FALSE(machine_->elapsed(epoch));
  bytes_->slots[0].word = 0;
  EXPECT_TRUE(machine_->elapsed(epoch));
}

TEST_F(GracePeriodTest, ReadersFenceWhereSomebodyCannotIssueBarriers) {
  bytes_->epochs.need_fences = 1;
  auto section = std::make_unique<ReaderSection>(*machine_);
  const auto epoch = machine_->begin_grace_period();
  EXPECT_FALSE(machine_->elapsed(epoch));
  section.reset();
  EXPECT_TRUE(machine_->elapsed(epoch));
}

TEST_F(GracePeriodTest, DeferredCallbacksRunInOrderAfterTheirGracePeriods) {
  std::string order;
  auto lease = std::make_unique<Lease>(*machine_);
  machine_->defer([&] { order += 'a'; });
  machine_->run_deferred();
  EXPECT_EQ(order, "");
  lease.reset();
  lease = std::make_unique<Lease>(*machine_);
  machine_->defer([&] { order += 'b'; });
  machine_->run_deferred();
  EXPECT_EQ(order, "a");
  lease.reset();
  std::thread([&] { machine_->run_deferred(); }).join();
  EXPECT_EQ(order, "ab");
}

TEST_F(GracePeriodTest, DeferredCallbacksMayDefer) {
  int runs = 0;
  machine_->defer([&] {
    ++runs;
    machine_->defer([&] { ++runs; });
  });
  machine_->run_deferred();
  EXPECT_TRUE(eventually([&] {
    machine_->run_deferred();
    return runs == 2;
  }));
}

TEST_F(GracePeriodTest, ClosingTheMachineRunsWhatIsDeferred) {
  bool ran = false;
  machine_->defer([&] { ran = true; });
  machine_.reset();
  EXPECT_TRUE(ran);
}

TEST_F(GracePeriodTest, ClosingTheMachineDropsWhatCannotRun) {
  bool ran = false;
  auto owned = std::make_shared<int>(1);
  std::weak_ptr<int> watched = owned;
  machine_->defer([&ran, owned = std::move(owned)] { ran = true; });
  bytes_->slots[0].word = uint64_t{machine_->self().value} << 32;  // epoch 0: before everything
  machine_.reset();
  EXPECT_FALSE(ran);
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace skep
