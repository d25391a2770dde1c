// SPDX-License-Identifier: Apache-2.0
// bpf_task_work in the values of maps, here and on the kernel.
#include "btf/kernel_btf.h"
#include "syscall/timer_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using Callback = TimerSide::Callback;

constexpr int32_t kCurrentTask = 158;
constexpr FieldType kTaskWork = {"bpf_task_work", 8};

class TaskWorkOracleTest : public TwoFaces {
 protected:
  void SetUp() override {
    TwoFaces::SetUp();
    const auto types = KernelBtf::read();
    if (!types) GTEST_SKIP() << last_error_sentence();
    if (types->find(BtfKind::kFunc, "bpf_task_work_schedule_signal_impl") == 0) GTEST_SKIP() << "no bpf_task_work here";
  }
  static Code call_by_name(std::string_view name) {
    static const auto types = KernelBtf::read();
    return call_kernel(types->find(BtfKind::kFunc, name));
  }
  void compare_kinds(const std::function<void(Face&, TimerSide&)>& script) {
    for (const uint32_t type : {BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH}) {
      compare([&](Face& face) {
        TimerSide side(face, type, 64, 0, kTaskWork);
        face.note("type", type);
        for (uint32_t key = 0; key < 4; ++key) ASSERT_EQ(side.set(key), 0);
        script(face, side);
      });
    }
  }
  static int load_schedule(TimerSide& side, uint32_t key, Callback callback = Callback::kCount,
                           std::string_view how = "signal") {
    const std::string name = "bpf_task_work_schedule_" + std::string(how) + "_impl";
    return side.load(
        key,
        {assembler::call(kCurrentTask), mov(r1, r0), mov(r2, r6), load_map(r3, static_cast<uint32_t>(side.map())),
         load_function(r4, 0), mov(r5, 0), call_by_name(name)},
        callback);
  }
  static int64_t schedule(TimerSide& side, uint32_t key, Callback callback = Callback::kCount,
                          std::string_view how = "signal") {
    return side.run(load_schedule(side, key, callback, how));
  }
};

TEST_F(TaskWorkOracleTest, RunsOnTheWayBackToTheTask) {
  compare_kinds([](Face& face, TimerSide& side) {
    for (const char* how : {"signal", "resume"}) {
      face.note(how, schedule(side, 1, Callback::kCount, how));
      face.note("count", static_cast<int64_t>(side.wait_for(1, 1)));
      face.note("key", static_cast<int64_t>(side.get(1)->key));
      face.note("field", static_cast<int64_t>(side.get(1)->timer[0]));
    }
    face.note("again", schedule(side, 1));
    face.note("count", static_cast<int64_t>(side.wait_for(1, 3)));
  });
}

TEST_F(TaskWorkOracleTest, OncePerField) {
  compare_kinds([](Face& face, TimerSide& side) {
    const auto map = static_cast<uint32_t>(side.map());
    const Code signal = call_by_name("bpf_task_work_schedule_signal_impl");
    face.note("second of two", side.run(0, {assembler::call(kCurrentTask), mov(r7, r0), mov(r1, r7), mov(r2, r6),
                                            load_map(r3, map), load_function(r4, 0), mov(r5, 0), signal, mov(r1, r7),
                                            mov(r2, r6), load_map(r3, map), load_function(r4, 0), mov(r5, 0), signal}));
    face.note("count", static_cast<int64_t>(side.wait_for(0, 1)));
    face.note("then", schedule(side, 0));
    face.note("count", static_cast<int64_t>(side.wait_for(0, 2)));
  });
}

TEST_F(TaskWorkOracleTest, FromItsOwnCallback) {
  compare_kinds([](Face& face, TimerSide& side) {
    // Unless it ran twice already.
    side.give_callback({assembler::load(kDw, r1, r6, 16), mov(r0, 77), jump_if(kJge, r1, 2, 9),
                        assembler::call(kCurrentTask), mov(r1, r0), mov(r2, r6),
                        load_map(r3, static_cast<uint32_t>(side.map())), load_function(r4, 0), mov(r5, 0),
                        call_by_name("bpf_task_work_schedule_signal_impl")});
    face.note("first", schedule(side, 0, Callback::kGiven));
    face.note("count", static_cast<int64_t>(side.wait_for(0, 1)));
    face.note("its result", static_cast<int64_t>(side.get(0)->result));
    face.note("second", schedule(side, 0, Callback::kCount));
    face.note("count", static_cast<int64_t>(side.wait_for(0, 2)));
  });
}

TEST_F(TaskWorkOracleTest, NoUsers) {
  compare_kinds([](Face& face, TimerSide& side) {
    const int program = load_schedule(side, 0);
    const uint32_t id = side.map_id();
    side.close_map();
    face.note("without users", side.run(program));
    side.open_map(id);
    face.note("with a user again", side.run(program));
    face.note("count", static_cast<int64_t>(side.wait_for(0, 1)));
  });
}

TEST_F(TaskWorkOracleTest, ProgramTypes) {
  compare([](Face& face) {
    TimerSide side(face, BPF_MAP_TYPE_ARRAY, 4, 0, kTaskWork);
    for (const uint32_t type :
         {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_TRACEPOINT,
          BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_CGROUP_SKB, BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_SYSCALL}) {
      face.expect("type " + std::to_string(type),
                  side.try_to_load(type, 0,
                                   {assembler::call(kCurrentTask), mov(r1, r0), mov(r2, r6),
                                    load_map(r3, static_cast<uint32_t>(side.map())), load_function(r4, 0), mov(r5, 0),
                                    call_by_name("bpf_task_work_schedule_signal_impl"), mov(r0, 0)}));
    }
  });
}

}  // namespace
}  // namespace skep
