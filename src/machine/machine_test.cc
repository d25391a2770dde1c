// SPDX-License-Identifier: Apache-2.0
#include "machine/machine.h"

#include <sys/stat.h>

#include <filesystem>
#include <thread>
#include <vector>

#include "machine/lease.h"
#include "machine/machine_test_support.h"
#include "machine/possible_cpus.h"
#include "machine/reader_section.h"
#include "memory/file_space.h"

namespace skep {
namespace {

TEST(MachineTest, ShapeOfTheHost) {
  TestDirectory directory;
  const auto machine = open_machine(directory);
  EXPECT_EQ(machine->cpus(), std::min(possible_cpus(), kMaxSlots - kMinWriterSlots));
  EXPECT_GE(machine->slots(), machine->cpus() + kMinWriterSlots);
  EXPECT_LE(machine->slots(), kMaxSlots);
  EXPECT_EQ(machine->self().index(), 1U);
  EXPECT_TRUE(machine->alive(machine->self()));
  EXPECT_FALSE(machine->alive(ProcessTag{}));
  EXPECT_FALSE(machine->alive(ProcessTag{machine->self().value + 1}));
}

TEST(MachineTest, OnePerInstanceAndProcess) {
  TestDirectory one;
  TestDirectory other;
  auto machine = open_machine(one);
  EXPECT_EQ(machine, open_machine(one));
  EXPECT_NE(machine, open_machine(other));
  const ProcessTag before = machine->self();
  machine.reset();
  EXPECT_NE(open_machine(one)->self(), before);
}

TEST(MachineTest, FileIsReservedAndNothingElseIsLeft) {
  TestDirectory directory;
  const auto machine = open_machine(directory);
  struct stat status;
  ASSERT_EQ(fstatat(directory.fd(), "machine", &status, 0), 0);
  EXPECT_EQ(static_cast<uint64_t>(status.st_blocks) * 512, sizeof(MachineSegment));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
}

TEST(MachineTest, IdsAscendPerKindAndComeRound) {
  TestDirectory directory;
  const auto machine = open_machine(directory);
  EXPECT_EQ(machine->next_id(ObjectKind::kMap), 1U);
  EXPECT_EQ(machine->next_id(ObjectKind::kMap), 2U);
  EXPECT_EQ(machine->next_id(ObjectKind::kProgram), 1U);
  EXPECT_EQ(machine->next_id(ObjectKind::kMap), 3U);
  MachineBytes bytes(directory);
  bytes->counters.ids[static_cast<uint32_t>(ObjectKind::kMap)] = INT32_MAX - 1;
  EXPECT_EQ(machine->next_id(ObjectKind::kMap), static_cast<uint32_t>(INT32_MAX));
  EXPECT_EQ(machine->next_id(ObjectKind::kMap), 1U);
}

class HostileMachineTest : public testing::Test {
 protected:
  void expect_refused() {
    clear_last_error();
    const auto machine = Machine::open(directory_.fd());
    ASSERT_FALSE(machine);
    EXPECT_EQ(to_int(machine.error()), EINVAL);
    EXPECT_STRNE(last_error_sentence(), "");
  }
  TestDirectory directory_;
};

TEST_F(HostileMachineTest, BadShape) {
  open_machine(directory_).reset();
  MachineBytes bytes(directory_);
  for (const MachineShape shape : {MachineShape{0, 34}, {2, 2}, {2, kMaxSlots + 1}, {UINT32_MAX, 4}}) {
    bytes->shape = shape;
    expect_refused();
  }
}

TEST_F(HostileMachineTest, AnotherSizeKindOrVersion) {
  open_machine(directory_).reset();
  MachineBytes bytes(directory_);
  bytes->header.kind = ObjectKind::kMap;
  expect_refused();
  bytes->header.kind = ObjectKind::kMachine;
  bytes->header.layout_version = kLayoutVersion + 1;
  expect_refused();
  bytes->header.layout_version = kLayoutVersion;
  bytes->header.private_size = kPageSize;
  const int fd = openat(directory_.fd(), "machine", O_RDWR | O_CLOEXEC);
  ASSERT_TRUE(size_file(fd, kHeaderOffset + kPageSize));
  expect_refused();
  ASSERT_TRUE(size_file(fd, 10));
  expect_refused();
  close(fd);
}

TEST_F(HostileMachineTest, SymbolicLinkIsNotFollowed) {
  TestDirectory other;
  open_machine(other).reset();
  ASSERT_EQ(symlinkat((other.path() + "/machine").c_str(), directory_.fd(), "machine"), 0);
  const auto machine = Machine::open(directory_.fd());
  ASSERT_FALSE(machine);
  EXPECT_EQ(to_int(machine.error()), ELOOP);
}

// The application may close the descriptor that the machine keeps, and reuse its number.
TEST(MachineDescriptorTest, SurvivesBeingClosed) {
  TestDirectory directory;
  const auto machine = open_machine(directory);
  std::vector<int> kept;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(entry.path(), gone);
    if (target == directory.path() + "/machine") kept.push_back(std::stoi(entry.path().filename()));
  }
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_GE(kept[0], 32);
  const int file = directory.make_file();
  ASSERT_EQ(dup2(file, kept[0]), kept[0]);
  MachineBytes bytes(directory);
  bytes->generations[7] = 1;  // an index that nobody has locked
  EXPECT_FALSE(machine->alive(ProcessTag::make(7, 1)));
  struct stat status;
  EXPECT_EQ(fstat(kept[0], &status), 0);
  EXPECT_EQ(status.st_nlink, 0U);  // still the application's own file
  close(kept[0]);
  close(file);
}

TEST(MachineThreadsTest, ReaderRecordsAreGivenBack) {
  TestDirectory directory;
  const auto machine = open_machine(directory);
  for (int i = 0; i < 50; ++i) std::thread([&] { ReaderSection section(*machine); }).join();
  MachineBytes bytes(directory);
  EXPECT_EQ(bytes->counters.readers_used.load(), 1U);
  EXPECT_EQ(bytes->readers[0].owner.load(), 0U);
  EXPECT_EQ(bytes->readers[0].active.load(), 0U);
}

TEST(MachineThreadsTest, ThreadsOfSeveralMachinesKeepThemApart) {
  std::vector<std::unique_ptr<TestDirectory>> directories;
  std::vector<std::shared_ptr<Machine>> machines;
  for (int i = 0; i < 6; ++i) {
    directories.push_back(std::make_unique<TestDirectory>());
    machines.push_back(open_machine(*directories.back()));
  }
  std::vector<std::unique_ptr<Lease>> leases;
  for (const auto& machine : machines) leases.push_back(std::make_unique<Lease>(*machine));
  for (size_t i = 0; i < machines.size(); ++i) {
    EXPECT_TRUE(machines[i]->held_by_this_thread(leases[i]->slot()));
    EXPECT_EQ(machines[i]->holder(leases[i]->slot()), machines[i]->self());
  }
  for (size_t i = machines.size(); i-- > 0;) {
    const uint32_t slot = leases[i]->slot();
    leases[i].reset();
    EXPECT_EQ(machines[i]->holder(slot), ProcessTag{});
  }
}

// A machine that is closed and opened again must not be mistaken for its predecessor by a thread that knew that one.
TEST(MachineThreadsTest, ReopenedMachineIsAnother) {
  TestDirectory directory;
  for (int i = 0; i < 20; ++i) {
    const auto machine = open_machine(directory);
    const Lease lease(*machine);
    const ReaderSection section(*machine);
    EXPECT_EQ(machine->holder(lease.slot()), machine->self());
    EXPECT_EQ(machine->reader_record()->owner.load(), machine->self().value);
  }
}

}  // namespace
}  // namespace skep
