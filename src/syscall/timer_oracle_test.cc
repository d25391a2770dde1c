// SPDX-License-Identifier: Apache-2.0
// bpf_timer in the values of maps, here and on the kernel.
#include "syscall/timer_test_support.h"

namespace skep {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kHour = 3600 * kSecond;
using Callback = TimerSide::Callback;

class TimerOracleTest : public TwoFaces {
 protected:
  /// On both sides, for every kind of map that has timers.
  void compare_kinds(const std::function<void(Face&, TimerSide&)>& script) {
    for (const uint32_t type : {BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH}) {
      compare([&](Face& face) {
        TimerSide side(face, type, 64);
        face.note("type", type);
        for (uint32_t key = 0; key < 4; ++key) ASSERT_EQ(side.set(key), 0);
        script(face, side);
      });
    }
  }
};

TEST_F(TimerOracleTest, Init) {
  compare_kinds([](Face& face, TimerSide& side) {
    for (const int32_t clock : {2, 3, 4, 5, 6, 8, 11, 15, 16, 17, 23, -1, 1 << 20}) {
      face.note("clock " + std::to_string(clock), side.init(0, clock));
    }
    face.note("monotonic", side.init(0, 1));
    face.note("again", side.init(0, 1));
    face.note("again, with no such clock", side.init(0, 2));
    face.note("real time", side.init(1, 0));
    face.note("boot time", side.init(2, 7));
  });
}

TEST_F(TimerOracleTest, BeforeInitAndBeforeCallback) {
  compare_kinds([](Face& face, TimerSide& side) {
    face.note("callback", side.set_callback(0));
    face.note("start", side.start(0, 0));
    face.note("cancel", side.cancel(0));
    face.note("init", side.init(0));
    face.note("start without callback", side.start(0, 0));
    face.note("cancel idle", side.cancel(0));
    face.note("callback", side.set_callback(0));
    face.note("callback again", side.set_callback(0));
    for (const int32_t flags : {4, 5, 8, -1}) face.note("flags " + std::to_string(flags), side.start(0, 0, flags));
    face.note("start", side.start(0, kHour));
    face.note("cancel armed", side.cancel(0));
    face.note("cancel again", side.cancel(0));
    face.note("start after cancel", side.start(0, kHour));
    face.note("callback", side.set_callback(0));
    face.note("start", side.start(0, kHour));
    face.note("cancel", side.cancel(0));
    face.note("count", static_cast<int64_t>(side.get(0)->count));
  });
}

TEST_F(TimerOracleTest, CallbackGetsKeyAndValue) {
  compare_kinds([](Face& face, TimerSide& side) {
    for (uint32_t key = 0; key < 4; ++key) face.note("arm", side.arm(key, 1000));
    for (uint32_t key = 0; key < 4; ++key) {
      face.note("count", static_cast<int64_t>(side.wait_for(key, 1)));
      const auto value = side.get(key);
      face.note("key", static_cast<int64_t>(value->key));
      face.note("timer", static_cast<int64_t>(value->timer[0] | value->timer[1]));
      face.note("cancel", side.cancel(key));
    }
  });
}

TEST_F(TimerOracleTest, AbsoluteTimesAndPinning) {
  compare_kinds([](Face& face, TimerSide& side) {
    face.note("init", side.init(0, 1) | side.init(1, 0) | side.init(2, 7));
    face.note("callbacks", side.set_callback(0) | side.set_callback(1) | side.set_callback(2));
    face.note("past", side.start(0, 1, 1) | side.start(1, 1, 1) | side.start(2, 1, 3));
    for (uint32_t key = 0; key < 3; ++key) face.note("count", static_cast<int64_t>(side.wait_for(key, 1)));
    face.note("pinned", side.start(0, 0, 2));
    face.note("count", static_cast<int64_t>(side.wait_for(0, 2)));
    face.note("far off", side.start(1, UINT64_MAX / 2, 1) | side.start(2, UINT64_MAX / 2 - 1, 0));
    face.note("cancel", side.cancel(1));
    face.note("cancel", side.cancel(2));
  });
}

TEST_F(TimerOracleTest, CancelFromInsideItsOwnCallback) {
  compare_kinds([](Face& face, TimerSide& side) {
    face.note("arm", side.arm(0, 0, Callback::kCancelItself));
    face.note("count", static_cast<int64_t>(side.wait_for(0, 1)));
    face.note("result", static_cast<int64_t>(side.get(0)->result));
    face.note("it still has its callback", side.start(0, kHour));
    face.note("cancel", side.cancel(0));
  });
}

TEST_F(TimerOracleTest, CallbackThatStartsItAgain) {
  compare_kinds([](Face& face, TimerSide& side) {
    face.note("arm", side.arm(0, 0, Callback::kRestart));
    face.note("often", side.wait_for(0, 50) >= 50);
    const int64_t cancelled = side.cancel(0);
    face.note("cancel", cancelled == 0 || cancelled == 1);
    const uint64_t count = side.get(0)->count;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    face.note("no more", side.get(0)->count == count);
    face.note("start", side.start(0, 0));
  });
}

TEST_F(TimerOracleTest, UpdateAndDeleteEndATimer) {
  compare_kinds([](Face& face, TimerSide& side) {
    face.note("arm", side.arm(0, kHour));
    face.note("update", side.set(0, 7));
    face.note("rest", static_cast<int64_t>(side.get(0)->rest));
    face.note("cancel", side.cancel(0));
    face.note("start", side.start(0, 0));
    face.note("init", side.init(0));
    face.note("delete", side.erase(0));
    face.note("insert", side.set(0));
    const int64_t cancelled = side.cancel(0);
    face.note("cancel", cancelled);
    if (cancelled == -EINVAL) face.note("init", side.init(0));
  });
}

TEST_F(TimerOracleTest, UpdatedTimersDoNotFire) {
  compare_kinds([](Face& face, TimerSide& side) {
    face.note("arm", side.arm(0, kSecond / 20));
    face.note("update", side.set(0, 7));
    face.note("arm another", side.arm(1, kSecond / 10));
    face.note("that one", static_cast<int64_t>(side.wait_for(1, 1)));
    face.note("this one", static_cast<int64_t>(side.get(0)->count));
  });
}

TEST_F(TimerOracleTest, UpdateByAProgramEndsATimer) {
  using namespace assembler;
  compare_kinds([](Face& face, TimerSide& side) {
    face.note("arm", side.arm(0, kHour));
    // The value itself as the new value: its timer is not copied.
    const auto map = static_cast<uint32_t>(side.map());
    face.note("update", side.run(0, {store(kDw, r10, -56, 1), store(kDw, r10, -48, 2), store(kDw, r10, -40, 3),
                                     store(kDw, r10, -32, 4), store(kDw, r10, -24, 5), store(kDw, r10, -16, 6),
                                     mov(r2, r10), add(r2, -4), mov(r3, r10), add(r3, -56), mov(r4, 0),
                                     load_map(r1, map), assembler::call(2)}));
    face.note("count", static_cast<int64_t>(side.get(0)->count));
    face.note("cancel", side.cancel(0));
    face.note("init", side.init(0));
  });
}

TEST_F(TimerOracleTest, TimersEndWithTheLastUser) {
  compare_kinds([](Face& face, TimerSide& side) {
    using namespace assembler;
    face.note("arm", side.arm(0, kHour));
    const auto map = static_cast<uint32_t>(side.map());
    const int cancel = side.load(0, {mov(r1, r6), assembler::call(TimerSide::kCancel)});
    const int init = side.load(0, {mov(r1, r6), load_map(r2, map), mov(r3, 1), assembler::call(TimerSide::kInit)});
    const uint32_t id = side.map_id();
    side.close_map();
    face.note("cancel", side.run(cancel));
    face.note("init", side.run(init));
    side.open_map(id);
    face.note("init with a user", side.run(init));
    face.note("cancel", side.run(cancel));
  });
}

TEST_F(TimerOracleTest, PendingTimersEndWithTheLastUser) {
  compare_kinds([](Face& face, TimerSide& side) {
    TimerSide other(face, BPF_MAP_TYPE_HASH);
    ASSERT_EQ(other.set(1), 0);
    face.note("arm", side.arm(0, kSecond / 20));
    const uint32_t id = side.map_id();
    side.close_map();
    face.note("arm another", other.arm(1, kSecond / 10));
    face.note("that one", static_cast<int64_t>(other.wait_for(1, 1)));
    side.open_map(id);
    face.note("this one", static_cast<int64_t>(side.get(0)->count));
  });
}

TEST_F(TimerOracleTest, MapsWithTimers) {
  compare([](Face& face) {
    TimerSide side(face, BPF_MAP_TYPE_HASH, 4, BPF_F_NO_PREALLOC);
    ASSERT_EQ(side.set(1), 0);
    bpf_attr attr = no_attr();
    attr.map_fd = static_cast<uint32_t>(side.map());
    face.note("freeze", face.call(BPF_MAP_FREEZE, attr));
    face.note("locked update", side.set(1, 0, BPF_F_LOCK));
    face.note("arm", side.arm(1, 0));
    face.note("count", static_cast<int64_t>(side.wait_for(1, 1)));
    face.note("delete", side.erase(1));
    face.note("gone", side.cancel(1));
  });
}

TEST_F(TimerOracleTest, TracingProgramsHaveNoTimers) {
  compare([](Face& face) {
    using namespace assembler;
    TimerSide side(face, BPF_MAP_TYPE_HASH);
    for (const uint32_t type : {BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_TRACEPOINT, BPF_PROG_TYPE_RAW_TRACEPOINT,
                                BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_SOCKET_FILTER}) {
      const auto cancel = {mov(r1, r6), assembler::call(TimerSide::kCancel), mov(r0, 0)};
      face.expect("type " + std::to_string(type), side.try_to_load(type, 0, cancel));
    }
  });
}

}  // namespace
}  // namespace skep
