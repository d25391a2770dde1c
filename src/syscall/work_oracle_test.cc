// SPDX-License-Identifier: Apache-2.0
// bpf_wq and bpf_res_spin_lock in the values of maps, here and on the kernel.
#include "btf/kernel_btf.h"
#include "syscall/timer_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using Callback = TimerSide::Callback;
using Body = std::initializer_list<Code>;

class WorkOracleTest : public TwoFaces {
 protected:
  void SetUp() override {
    TwoFaces::SetUp();
    if (!KernelBtf::read()) GTEST_SKIP() << last_error_sentence();
  }
  static Code call_by_name(std::string_view name) {
    static const auto types = KernelBtf::read();
    return call_kernel(types->find(BtfKind::kFunc, name));
  }
  void compare_kinds(FieldType field, const std::function<void(Face&, TimerSide&)>& script) {
    for (const uint32_t type : {BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH}) {
      if (type == BPF_MAP_TYPE_LRU_HASH && field.size == 4) continue;
      compare([&](Face& face) {
        TimerSide side(face, type, 64, 0, field);
        face.note("type", type);
        for (uint32_t key = 0; key < 4; ++key) ASSERT_EQ(side.set(key), 0);
        script(face, side);
      });
    }
  }

  static constexpr FieldType kWork = {"bpf_wq", 16}, kLock = {"bpf_res_spin_lock", 4};
  static int64_t init(TimerSide& side, uint32_t key, int32_t flags = 0) {
    return side.run(key, {mov(r1, r6), load_map(r2, static_cast<uint32_t>(side.map())), mov(r3, flags),
                          call_by_name("bpf_wq_init")});
  }
  static int64_t set_callback(TimerSide& side, uint32_t key, int32_t flags = 0) {
    return side.run(
        key, {mov(r1, r6), load_function(r2, 0), mov(r3, flags), mov(r4, 0), call_by_name("bpf_wq_set_callback_impl")});
  }
  static int64_t start(TimerSide& side, uint32_t key, int32_t flags = 0) {
    return side.run(key, {mov(r1, r6), mov(r2, flags), call_by_name("bpf_wq_start")});
  }
};

TEST_F(WorkOracleTest, InitCallbackAndStart) {
  compare_kinds(kWork, [](Face& face, TimerSide& side) {
    face.note("callback before init", set_callback(side, 0));
    face.note("start before init", start(side, 0));
    for (const int32_t flags : {1, 7, -1}) face.note("init with flags", init(side, 0, flags));
    face.note("init", init(side, 0));
    face.note("again", init(side, 0));
    face.note("again with flags", init(side, 0, 1));
    face.note("start before callback", start(side, 0));
    face.note("callback with flags", set_callback(side, 0, 1));
    face.note("callback", set_callback(side, 0));
    face.note("callback again", set_callback(side, 0));
    face.note("start with flags", start(side, 0, 1));
    face.note("start", start(side, 0));
    face.note("count", static_cast<int64_t>(side.wait_for(0, 1)));
    face.note("start again", start(side, 0));
    face.note("count", static_cast<int64_t>(side.wait_for(0, 2)));
    const auto value = side.get(0);
    face.note("field", static_cast<int64_t>(value->timer[0] | value->timer[1]));
  });
}

TEST_F(WorkOracleTest, CallbackGetsItsKey) {
  compare_kinds(kWork, [](Face& face, TimerSide& side) {
    for (const uint32_t key : {3U, 1U}) {
      face.note("init", init(side, key));
      face.note("callback", set_callback(side, key));
      face.note("start", start(side, key));
      face.note("count", static_cast<int64_t>(side.wait_for(key, 1)));
      face.note("key", static_cast<int64_t>(side.get(key)->key));
    }
  });
}

TEST_F(WorkOracleTest, UpdateAndDeleteEndIt) {
  compare_kinds(kWork, [](Face& face, TimerSide& side) {
    face.note("init", init(side, 0));
    face.note("callback", set_callback(side, 0));
    face.note("update", side.set(0));
    face.note("start", start(side, 0));
    face.note("init anew", init(side, 0));
    face.note("start", start(side, 0));
    face.note("erase", side.erase(0));
    if (side.get(0)) return;
    face.note("update", side.set(0));
    face.note("start", start(side, 0));
    face.note("init anew", init(side, 0));
  });
}

TEST_F(WorkOracleTest, NoUsers) {
  compare_kinds(kWork, [](Face& face, TimerSide& side) {
    const int first = side.load(
        0, {mov(r1, r6), load_map(r2, static_cast<uint32_t>(side.map())), mov(r3, 0), call_by_name("bpf_wq_init")});
    const int second = side.load(
        1, {mov(r1, r6), load_function(r2, 0), mov(r3, 0), mov(r4, 0), call_by_name("bpf_wq_set_callback_impl")});
    face.note("init of another", init(side, 1));
    side.close_map();
    face.note("init", side.run(first));
    face.note("callback", side.run(second));
  });
}

TEST_F(WorkOracleTest, LockAndUnlock) {
  compare_kinds(kLock, [](Face& face, TimerSide& side) {
    const Code lock = call_by_name("bpf_res_spin_lock"), unlock = call_by_name("bpf_res_spin_unlock");
    const auto locked = [&](Code inside) {
      return side.run(0,
                      {mov(r1, r6), lock, jump_if(kJeq, r0, 0, 1), exit_(), inside, mov(r1, r6), unlock, mov(r0, 7)});
    };
    for (int i = 0; i < 3; ++i) face.note("lock and unlock", locked(mov(r2, 0)));
    face.note("write inside", locked(store(kDw, r6, 16, 5)));
    face.note("value", static_cast<int64_t>(side.get(0)->count));
    face.note("lock bytes", static_cast<int64_t>(side.get(0)->timer[0] & UINT32_MAX));
    face.note("update", side.set(0));
    face.note("after an update", locked(mov(r2, 0)));
  });
}

TEST_F(WorkOracleTest, TheSameLockTwice) {
  compare_kinds(kLock, [](Face& face, TimerSide& side) {
    const Code lock = call_by_name("bpf_res_spin_lock"), unlock = call_by_name("bpf_res_spin_unlock");
    // The value is looked up twice, so that nobody can tell beforehand that it is one lock.
    const auto take_both = [&](int32_t second) {
      return side.run(0, {store(kW, r10, -4, second),
                          mov(r2, r10),
                          add(r2, -4),
                          load_map(r1, static_cast<uint32_t>(side.map())),
                          assembler::call(1),
                          jump_if(kJne, r0, 0, 2),
                          mov(r0, 99),
                          exit_(),
                          mov(r7, r0),
                          mov(r1, r6),
                          lock,
                          jump_if(kJeq, r0, 0, 2),
                          mov(r0, 98),
                          exit_(),
                          mov(r1, r7),
                          lock,
                          mov(r8, r0),
                          jump_if(kJne, r0, 0, 2),
                          mov(r1, r7),
                          unlock,
                          mov(r1, r6),
                          unlock,
                          mov(r0, r8)});
    };
    face.note("the same", take_both(0));
    face.note("another", take_both(1));
    face.note("the same again", take_both(0));
  });
}

TEST_F(WorkOracleTest, LockWithInterruptsOff) {
  compare_kinds(kLock, [](Face& face, TimerSide& side) {
    face.note("lock and unlock",
              side.run(0, {mov(r1, r6), mov(r2, r10), add(r2, -16), call_by_name("bpf_res_spin_lock_irqsave"),
                           jump_if(kJeq, r0, 0, 1), exit_(), mov(r1, r6), mov(r2, r10), add(r2, -16),
                           call_by_name("bpf_res_spin_unlock_irqrestore"), mov(r0, 7)}));
  });
}

}  // namespace
}  // namespace skep
