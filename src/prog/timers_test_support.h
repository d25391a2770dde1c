// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "machine/machine_test_support.h"
#include "prog/clock.h"
#include "prog/program_test_support.h"
#include "prog/timers.h"

namespace skep::testing {

inline constexpr uint64_t kHour = uint64_t{3600} * 1'000'000'000;
inline constexpr uint32_t kValueSize = 40;

/// Where the callback of make_slow_map() is.
enum class Slow : uint64_t { kNotYet = 0, kRuns = 1, kHasRun = 2 };

/// An array or hash whose values are | bpf_timer | count | key | ... |, and a program with a callback that counts.
class TimersTest : public ProgramTest {
 protected:
  void make_map(uint32_t type, uint32_t entries) {
    using namespace assembler;
    // ++value->count, value->key = *key, both atomically, since tests read
    make_map(type, entries,
             assemble({mov(r1, 1), atomic(kDw, kAdd, r3, 16, r1), load(kW, r1, r2, 0), atomic(kDw, kXchg, r3, 24, r1),
                       mov(r0, 0), exit_()}));
  }
  /// An array of one entry whose callback takes some milliseconds, and says where it is. Its count tells whether two
  /// have run at the same time.
  void make_slow_map() {
    using namespace assembler;
    make_map(BPF_MAP_TYPE_ARRAY, 1,
             assemble({mov(r1, 1), atomic(kDw, kXchg, r3, 32, r1), jump_if(kJne, r1, 1, 1),
                       atomic(kDw, kXchg, r3, 16, r1), mov(r4, 8'000'000), add(r4, -1), jump_if(kJne, r4, 0, -2),
                       mov(r1, 2), atomic(kDw, kXchg, r3, 32, r1), mov(r0, 0), exit_()}));
  }
  [[nodiscard]] Slow slow(uint32_t key) const {
    std::array<uint64_t, kValueSize / 8> value{};
    return maps_[0]->lookup(&key, value.data(), 0) ? Slow{value[4]} : Slow::kNotYet;
  }
  /// Makes the entry anew, without a timer.
  void end_slow(uint32_t key) const {
    const std::array<std::byte, kValueSize> zeros{};
    const Lease lease(maps_[0]->machine());
    ASSERT_TRUE(maps_[0]->update(lease, &key, zeros.data(), 0));
  }
  void make_map(uint32_t type, uint32_t entries, const std::vector<bpf_insn>& callback) {
    MapSpec with_timer = spec(type, 4, kValueSize, entries);
    with_timer.fields.*field_ = 0;
    add_map(make(with_timer));
    const Lease lease(machine());
    const std::array<std::byte, kValueSize> zeros{};
    for (uint32_t key = 0; key < entries; ++key) ASSERT_TRUE(maps_[0]->update(lease, &key, zeros.data(), 0));
    using namespace assembler;
    std::vector<bpf_insn> code = assemble({load_map(r1, 0), load_function(r1, 3), mov(r0, 0), exit_()});
    code.insert(code.end(), callback.begin(), callback.end());
    program_ = prepare(std::move(code));
    ASSERT_NE(program_, nullptr);
    for (const FunctionEntry& function : program_->code().functions) callback_ = std::max(callback_, function.index);
    timers_ = std::make_unique<Timers>(machine(), timers_environment_);
  }
  void TearDown() override {
    timers_.reset();
    program_.reset();
    ProgramTest::TearDown();
  }

  [[nodiscard]] TimerPlace place(uint32_t key) const {
    const Lease lease(maps_[0]->machine());
    void* const value = maps_[0]->find(lease, &key);
    return {.field = static_cast<TimerField*>(value), .value = value, .map = &program_->code().maps[0]};
  }
  [[nodiscard]] uint64_t count(uint32_t key) const {
    std::array<uint64_t, kValueSize / 8> value{};
    return maps_[0]->lookup(&key, value.data(), 0) ? value[2] : 0;
  }
  int64_t start(uint32_t key, uint64_t nanoseconds, uint64_t flags = 0) {
    const Lease lease(machine());
    return timers_->start(place(key), nanoseconds, flags, lease);
  }
  void prepare_timer(uint32_t key) {
    ASSERT_EQ(timers_->init(place(key), 1), 0);
    ASSERT_EQ(timers_->set_callback(place(key), program_->code(), callback_), 0);
  }

  uint32_t ValueFields::*field_ = &ValueFields::timer;  // that stands at the values' beginning
  std::unique_ptr<Program> program_;
  uint32_t callback_ = 0;
  RunEnvironment timers_environment_;
  std::unique_ptr<Timers> timers_;
};

}  // namespace skep::testing
