// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstdint>

#include "maps/value_lock.h"
#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr int32_t kLookup = 1, kUpdate = 2, kDelete = 3, kSpinLock = 93, kSpinUnlock = 94, kKtime = 5;

/// What a program may touch and what it may not, access by access.
class RunMemoryTest : public testing::ProgramTest {
 protected:
  int error_of_run(std::vector<bpf_insn> code) { return run(std::move(code)).error; }

  /// `body` runs with the value of the array's element `index` in R0; then 0 is returned.
  static std::vector<bpf_insn> with_value(uint32_t map, int32_t index, std::initializer_list<Code> body) {
    std::vector<bpf_insn> code = assemble({store(kW, r10, -4, index), mov(r2, r10), add(r2, -4), load_map(r1, map),
                                           call(kLookup), jump_if(kJne, r0, 0, 2), mov(r0, 1), exit_()});
    const auto rest = assemble(body);
    code.insert(code.end(), rest.begin(), rest.end());
    const auto end = assemble({mov(r0, 0), exit_()});
    code.insert(code.end(), end.begin(), end.end());
    return code;
  }
};

TEST_F(RunMemoryTest, NothingOutsideTheStack) {
  EXPECT_EQ(error_of_run(assemble({mov(r3, r10), load(kDw, r0, r3, -512), exit_()})), 0);
  EXPECT_EQ(error_of_run(assemble({mov(r3, r10), load(kDw, r0, r3, -513), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({mov(r3, r10), load(kDw, r0, r3, -7), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({mov(r3, r10), load(kB, r0, r3, 0), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({mov(r3, r10), store(kB, r3, 0, 1), mov(r0, 0), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({load(kB, r0, r10, 0), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({store(kDw, r10, -516, 0), mov(r0, 0), exit_()})), EFAULT);
}

TEST_F(RunMemoryTest, AWindowNeverWidensARegion) {
  // The first access opens the window for R3; the second one, through the same register, must be refused all the same.
  for (const int off : {0, -1, -4, -7, -519, -513, 100000, -100000}) {
    EXPECT_EQ(error_of_run(assemble({mov(r3, r10), load(kDw, r0, r3, -8), load(kDw, r0, r3, off), exit_()})), EFAULT)
        << off;
    EXPECT_EQ(
        error_of_run(assemble({mov(r3, r10), store(kDw, r3, -8, 1), store(kDw, r3, off, 1), mov(r0, 0), exit_()})),
        EFAULT)
        << off;
  }
  EXPECT_EQ(error_of_run(assemble({mov(r3, r10), load(kDw, r0, r3, -8), load(kB, r0, r3, -1), exit_()})), 0);
  EXPECT_EQ(error_of_run(assemble({mov(r3, r10), load(kDw, r0, r3, -8), mov(r3, 0), load(kB, r0, r3, 0), exit_()})),
            EFAULT);
}

TEST_F(RunMemoryTest, NoAddressIsSpecial) {
  for (const uint64_t address : {uint64_t{0}, uint64_t{8}, UINT64_MAX, UINT64_MAX - 7, uint64_t{1} << 63,
                                 reinterpret_cast<uint64_t>(&kLookup), reinterpret_cast<uint64_t>(this)}) {
    EXPECT_EQ(error_of_run(assemble({load_imm64(r3, address), load(kDw, r0, r3, 0), exit_()})), EFAULT);
    EXPECT_EQ(error_of_run(assemble({load_imm64(r3, address), load(kB, r0, r3, 0), exit_()})), EFAULT);
    EXPECT_EQ(error_of_run(assemble({load_imm64(r3, address), store(kDw, r3, 0, 0), mov(r0, 0), exit_()})), EFAULT);
    EXPECT_EQ(error_of_run(assemble({load_imm64(r3, address), atomic(kDw, kAdd, r3, 0, r0), exit_()})), EFAULT);
  }
}

TEST_F(RunMemoryTest, TheReasonNamesTheInstruction) {
  const auto outcome = run(assemble({load_imm64(r1, 0), mov(r3, 16), load(kW, r0, r3, 0), exit_()}));
  EXPECT_EQ(outcome.reason, "insn 3: the program reads memory that is not its own: 4 bytes at 0x10");
}

TEST_F(RunMemoryTest, ValuesFromLookups) {
  const uint32_t map = add_array(12, 4);
  EXPECT_EQ(run(with_value(map, 4, {})).value, 1U);
  EXPECT_EQ(error_of_run(with_value(map, 3, {store(kDw, r0, 0, 5), load(kW, r1, r0, 8)})), 0);
  uint64_t stored = 0;
  const uint32_t key = 3;
  char value[12];
  ASSERT_TRUE(maps_[map]->lookup(&key, value, 0));
  std::memcpy(&stored, value, 8);
  EXPECT_EQ(stored, 5U);
  // Nothing but the value's own bytes, not even the padding that follows or a neighbour.
  for (const int off : {-1, -8, 5, 8, 12, 16, 4096}) {
    EXPECT_EQ(error_of_run(with_value(map, 1, {load(kDw, r1, r0, off)})), EFAULT) << off;
    EXPECT_EQ(error_of_run(with_value(map, 1, {load(kDw, r1, r0, 0), load(kDw, r1, r0, off)})), EFAULT) << off;
    EXPECT_EQ(error_of_run(with_value(map, 1, {store(kDw, r0, off, 1)})), EFAULT) << off;
  }
}

TEST_F(RunMemoryTest, ProgramRightsOfMaps) {
  const uint32_t read_only = add_array(8, 1, BPF_F_RDONLY_PROG);
  const uint32_t write_only = add_array(8, 1, BPF_F_WRONLY_PROG);
  EXPECT_EQ(error_of_run(with_value(read_only, 0, {load(kDw, r1, r0, 0)})), 0);
  EXPECT_EQ(error_of_run(with_value(read_only, 0, {load(kDw, r1, r0, 0), store(kDw, r0, 0, 1)})), EFAULT);
  EXPECT_EQ(error_of_run(with_value(read_only, 0, {atomic(kDw, kAdd, r0, 0, r1)})), EFAULT);
  EXPECT_EQ(error_of_run(with_value(write_only, 0, {store(kDw, r0, 0, 1)})), 0);
  EXPECT_EQ(error_of_run(with_value(write_only, 0, {store(kDw, r0, 0, 1), load(kDw, r1, r0, 0)})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({store(kDw, r10, -8, 0), mov(r2, r10), add(r2, -8), mov(r3, r2), mov(r4, 0),
                                   load_map(r1, read_only), call(kUpdate), exit_()})),
            EINVAL);
}

TEST_F(RunMemoryTest, MapsThatThisProcessMayOnlyRead) {
  for (const uint32_t type : {BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH}) {
    const auto writer = make(spec(type, 4, 8, 1));
    const uint32_t key = 0;
    const uint64_t value = 7;
    {
      const Lease lease(machine());
      ASSERT_TRUE(writer->update(lease, &key, &value, 0));
    }
    auto reader = open_map(last_file(), Access::kReadOnly, machine());
    ASSERT_TRUE(reader);
    const uint32_t map = add_map(std::move(*reader));
    EXPECT_EQ(error_of_run(with_value(map, 0, {load(kDw, r1, r0, 0)})), 0);
    EXPECT_EQ(error_of_run(with_value(map, 0, {store(kDw, r0, 0, 1)})), EFAULT);
    EXPECT_EQ(error_of_run(assemble({store(kDw, r10, -8, 0), mov(r2, r10), add(r2, -8), mov(r3, r2), mov(r4, 0),
                                     load_map(r1, map), call(kUpdate), exit_()})),
              EINVAL);
  }
}

TEST_F(RunMemoryTest, DirectValues) {
  const uint32_t map = add_array(16, 1);
  EXPECT_EQ(value_of(assemble({load_map_value(r1, map, 8), store(kDw, r1, 0, 9), load(kDw, r0, r1, 0), exit_()})), 9U);
  EXPECT_EQ(error_of_run(assemble({load_map_value(r1, map, 8), load(kDw, r0, r1, 8), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({load_map_value(r1, map, 8), load(kDw, r0, r1, -16), exit_()})), EFAULT);
  EXPECT_NE(refusal(assemble({load_map_value(r1, map, 16), mov(r0, 0), exit_()})), "");
  const uint32_t several = add_array(16, 2);
  EXPECT_NE(refusal(assemble({load_map_value(r1, several, 0), mov(r0, 0), exit_()})), "");
}

TEST_F(RunMemoryTest, EveryLivePointerStaysUsable) {
  const uint32_t map = add_array(8, 4096);
  // R7: the value of element 0, kept while 4,000 other elements are looked up; then written through.
  EXPECT_EQ(value_of(assemble({store(kW, r10, -4, 0), mov(r2, r10), add(r2, -4), load_map(r1, map), call(kLookup),
                               mov(r7, r0), mov(r6, 1), store(kW, r10, -4, r6), mov(r2, r10), add(r2, -4),
                               load_map(r1, map), call(kLookup), store(kDw, r0, 0, r6), add(r6, 1),
                               jump_if(kJlt, r6, 4000, -9), store(kDw, r7, 0, 77), load(kDw, r0, r7, 0), exit_()})),
            77U);
}

TEST_F(RunMemoryTest, PointersInTheStackStayUsable) {
  const uint32_t map = add_array(8, 4096);
  // 40 pointers are kept in the frame, then 200 more elements are looked up, then all 40 are read.
  EXPECT_EQ(value_of(assemble({mov(r6, 0),
                               mov(r7, r10),
                               add(r7, -400),
                               store(kW, r10, -4, r6),
                               mov(r2, r10),
                               add(r2, -4),
                               load_map(r1, map),
                               call(kLookup),
                               store(kDw, r0, 0, r6),
                               jump_if(kJge, r6, 40, 2),
                               store(kDw, r7, 0, r0),
                               add(r7, 8),
                               add(r6, 1),
                               jump_if(kJlt, r6, 240, -12),
                               mov(r0, 0),
                               mov(r7, r10),
                               add(r7, -400),
                               mov(r6, 0),
                               load(kDw, r1, r7, 0),
                               load(kDw, r1, r1, 0),
                               add(r0, r1),
                               add(r7, 8),
                               add(r6, 1),
                               jump_if(kJlt, r6, 40, -6),
                               exit_()})),
            780U);
}

TEST_F(RunMemoryTest, GrantsEndWithTheRun) {
  const uint32_t map = add_array(8, 1);
  const auto address = value_of(assemble({load_map_value(r0, map, 0), exit_()}));
  EXPECT_EQ(error_of_run(assemble({load_imm64(r1, address), load(kDw, r0, r1, 0), exit_()})), EFAULT);
}

TEST_F(RunMemoryTest, MapHandlesAreOnlyHandles) {
  const uint32_t map = add_array(8, 1);
  EXPECT_EQ(error_of_run(assemble({load_map(r1, map), load(kDw, r0, r1, 0), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({load_map(r1, map), add(r1, 8), mov(r2, r10), add(r2, -8), call(kLookup), exit_()})),
            EINVAL);
  EXPECT_EQ(error_of_run(assemble({mov(r1, 0), mov(r2, r10), add(r2, -8), call(kLookup), exit_()})), EINVAL);
  EXPECT_EQ(error_of_run(assemble({load_map(r1, map), mov(r2, r10), add(r2, -2), call(kLookup), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({load_map(r1, map), mov(r2, 0), call(kLookup), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({load_map(r1, map), mov(r2, 0), call(kDelete), exit_()})), EFAULT);
}

TEST_F(RunMemoryTest, MisalignedAtomicsAreRefused) {
  EXPECT_EQ(error_of_run(assemble({mov(r0, 0), atomic(kDw, kAdd, r10, -12, r0), exit_()})), EFAULT);
  EXPECT_EQ(error_of_run(assemble({mov(r0, 0), atomic(kW, kAdd, r10, -12, r0), exit_()})), 0);
}

class SpinLockTest : public RunMemoryTest {
 protected:
  void SetUp() override {
    RunMemoryTest::SetUp();
    MapSpec with_lock = spec(BPF_MAP_TYPE_ARRAY, 4, 16, 2);
    with_lock.fields.spin_lock = 4;
    map_ = add_map(make(with_lock));
  }
  [[nodiscard]] uint32_t word() const {
    const Lease lease(maps_[map_]->machine());
    const uint32_t key = 1;
    return ValueLock::of(maps_[map_]->find(lease, &key), maps_[map_]->spec().fields).load();
  }
  uint32_t map_ = 0;
};

TEST_F(SpinLockTest, LocksAndUnlocks) {
  EXPECT_EQ(error_of_run(with_value(map_, 1,
                                    {mov(r6, r0), mov(r1, r6), add(r1, 4), call(kSpinLock), store(kDw, r6, 8, 3),
                                     mov(r1, r6), add(r1, 4), call(kSpinUnlock)})),
            0);
  EXPECT_EQ(word(), 0U);
}

TEST_F(SpinLockTest, TheLockItselfIsOutOfReach) {
  for (const int off : {0, 1, 4, 7}) {
    EXPECT_EQ(error_of_run(with_value(map_, 1, {load(kDw, r1, r0, off)})), EFAULT) << off;
    EXPECT_EQ(error_of_run(with_value(map_, 1, {load(kDw, r1, r0, 8), store(kW, r0, 4, 1)})), EFAULT) << off;
  }
  EXPECT_EQ(error_of_run(with_value(map_, 1, {load(kDw, r1, r0, 8), load(kW, r1, r0, 0)})), 0);
}

TEST_F(SpinLockTest, MisuseStopsTheProgramAndFreesTheLock) {
  const Code no_code = mov(r7, 0);
  // Kept at the end; a helper under it; a second lock; a violation under it.
  EXPECT_EQ(error_of_run(with_value(map_, 1, {mov(r1, r0), add(r1, 4), call(kSpinLock), no_code})), EDEADLK);
  EXPECT_EQ(word(), 0U);
  EXPECT_EQ(error_of_run(with_value(map_, 1, {mov(r1, r0), add(r1, 4), call(kSpinLock), call(kKtime)})), EDEADLK);
  EXPECT_EQ(word(), 0U);
  EXPECT_EQ(
      error_of_run(with_value(
          map_, 1, {mov(r6, r0), mov(r1, r6), add(r1, 4), call(kSpinLock), mov(r1, r6), add(r1, 4), call(kSpinLock)})),
      EDEADLK);
  EXPECT_EQ(word(), 0U);
  EXPECT_EQ(error_of_run(with_value(map_, 1, {mov(r1, r0), add(r1, 4), call(kSpinLock), load(kB, r1, r7, 0)})), EFAULT);
  EXPECT_EQ(word(), 0U);
  // Not a lock, and not held.
  EXPECT_EQ(error_of_run(with_value(map_, 1, {mov(r1, r0), add(r1, 8), call(kSpinLock)})), EINVAL);
  EXPECT_EQ(error_of_run(with_value(map_, 1, {mov(r1, r0), add(r1, 4), call(kSpinUnlock)})), EINVAL);
}

}  // namespace
}  // namespace skep
