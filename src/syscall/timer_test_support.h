// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "btf/btf_builder.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {

/// The value of the maps of these tests.
struct TimerValue {
  uint64_t timer[2];
  uint64_t count;   // callbacks
  uint64_t key;     // that the last one got
  uint64_t result;  // of what a callback did
  uint64_t rest;
};
static_assert(sizeof(TimerValue) == 48);

/// The special field that takes the place of the timer.
struct FieldType {
  const char* name = "bpf_timer";
  uint32_t size = 16;  // bytes, a multiple of 8, or 4
};

/// A map with a timer or another special field in its values, and programs of one face that use it.
class TimerSide {
 public:
  using Code = assembler::Code;
  static constexpr int32_t kInit = 169, kSetCallback = 170, kStart = 171, kCancel = 172;

  /// What the callback does, with the value's address in R3.
  enum class Callback { kCount, kCancelItself, kRestart, kGiven };

  TimerSide(Face& face, uint32_t type, uint32_t entries = 4, uint32_t flags = 0, FieldType field = {}) : face_(face) {
    using B = BtfBuilder;
    B b;
    const uint32_t u32 = b.integer("unsigned int", 4), u64 = b.integer("unsigned long", 8);
    const uint32_t words = field.size == 4 ? u32 : b.array(u64, u32, field.size / 8);
    const uint32_t timer = b.structure(field.name, field.size, {{"__opaque", words, 0}});
    key_type_ = u32;
    value_type_ = b.structure(
        "value", 48,
        {{"timer", timer, 0}, {"count", u64, 128}, {"key", u64, 192}, {"result", u64, 256}, {"rest", u64, 320}});
    const uint32_t pointer = b.add(BtfKind::kPtr, "", 0);
    main_type_ = b.add(BtfKind::kFunc, "main", b.prototype(u32, {{"ctx", pointer}}), 1);
    callback_type_ =
        b.add(BtfKind::kFunc, "expired", b.prototype(u32, {{"map", pointer}, {"key", pointer}, {"value", pointer}}), 0);
    const auto raw = b.raw();
    bpf_attr load = no_attr();
    load.btf = reinterpret_cast<uint64_t>(raw.data());
    load.btf_size = static_cast<uint32_t>(raw.size());
    btf_ = face.call(BPF_BTF_LOAD, load);
    EXPECT_GE(btf_, 0);
    bpf_attr attr = map_attr(type, 4, sizeof(TimerValue), entries, flags);
    attr.btf_fd = static_cast<uint32_t>(btf_);
    attr.btf_key_type_id = key_type_;
    attr.btf_value_type_id = value_type_;
    map_ = face.call(BPF_MAP_CREATE, attr);
    EXPECT_GE(map_, 0);
  }
  TimerSide(const TimerSide&) = delete;
  TimerSide& operator=(const TimerSide&) = delete;
  ~TimerSide() {
    close_map();
    for (const int fd : programs_) ::close(fd);
    ::close(btf_);
  }

  [[nodiscard]] int map() const { return map_; }
  /// What Callback::kGiven does, with the value's address in R6; its R0 is the result.
  void give_callback(std::initializer_list<Code> body) { given_ = assembler::assemble(body); }
  void close_map() {
    if (map_ >= 0) ::close(std::exchange(map_, -1));
  }
  uint32_t map_id() {
    bpf_map_info info{};
    bpf_attr attr = no_attr();
    attr.info.bpf_fd = static_cast<uint32_t>(map_);
    attr.info.info_len = sizeof info;
    attr.info.info = reinterpret_cast<uint64_t>(&info);
    EXPECT_EQ(face_.call(BPF_OBJ_GET_INFO_BY_FD, attr), 0);
    return info.id;
  }
  void open_map(uint32_t id) {
    bpf_attr attr = no_attr();
    attr.map_id = id;
    map_ = face_.call(BPF_MAP_GET_FD_BY_ID, attr);
  }

  int set(uint32_t key, uint64_t rest = 0, uint64_t flags = 0) {
    TimerValue value{};
    value.timer[0] = value.timer[1] = UINT64_MAX;  // what users write there counts for nothing
    value.rest = rest;
    return face_.call(BPF_MAP_UPDATE_ELEM, element_attr(map_, &key, &value, flags));
  }
  int erase(uint32_t key) { return face_.call(BPF_MAP_DELETE_ELEM, element_attr(map_, &key, nullptr)); }
  std::optional<TimerValue> get(uint32_t key) {
    TimerValue value{};
    if (face_.call(BPF_MAP_LOOKUP_ELEM, element_attr(map_, &key, &value)) != 0) return std::nullopt;
    return value;
  }
  /// Waits until callbacks ran that often for `key`; what it counted in the end.
  uint64_t wait_for(uint32_t key, uint64_t count) {
    for (int i = 0; i < 3000; ++i) {
      if (const auto value = get(key); value && value->count >= count) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const auto value = get(key);
    return value ? value->count : 0;
  }

  /// A program that looks `key` up and does `body` with the value's address in R6, once it is run.
  int load(uint32_t key, std::initializer_list<Code> body, Callback callback = Callback::kCount) {
    const int fd = try_to_load(BPF_PROG_TYPE_SCHED_CLS, key, body, callback);
    EXPECT_GE(fd, 0) << log_.c_str();
    return fd;
  }
  /// The same as a program of another type; the descriptor or -errno.
  int try_to_load(uint32_t type, uint32_t key, std::initializer_list<Code> body, Callback callback = Callback::kCount) {
    using namespace assembler;
    std::vector<bpf_insn> code = assemble({store(kW, r10, -4, static_cast<int32_t>(key)), mov(r2, r10), add(r2, -4),
                                           load_map(r1, static_cast<uint32_t>(map_)), assembler::call(1),
                                           jump_if(kJne, r0, 0, 2), mov(r0, 9999), exit_(), mov(r6, r0)});
    append(code, assemble(body));
    append(code, assemble({exit_()}));
    const size_t main_size = code.size();
    bool names_callback = false;
    for (size_t i = 0; i < main_size; ++i) {
      if (code[i].code != (kLd | kImm | kDw) || code[i].src_reg != BPF_PSEUDO_FUNC) continue;
      code[i].imm = static_cast<int32_t>(main_size - i - 1);
      names_callback = true;
    }
    if (names_callback) append(code, callback_code(callback));
    ProgramToLoad whole;
    whole.type = type;
    whole.code = code;
    whole.flags = type == BPF_PROG_TYPE_SYSCALL ? uint32_t{BPF_F_SLEEPABLE} : 0;
    bpf_attr attr = whole.attr();
    bpf_func_info functions[] = {{0, main_type_}, {static_cast<uint32_t>(main_size), callback_type_}};
    if (names_callback) {
      attr.prog_btf_fd = static_cast<uint32_t>(btf_);
      attr.func_info = reinterpret_cast<uint64_t>(functions);
      attr.func_info_cnt = 2;
      attr.func_info_rec_size = sizeof functions[0];
    }
    attr.log_level = 1;
    attr.log_size = static_cast<uint32_t>(log_.size());
    attr.log_buf = reinterpret_cast<uint64_t>(log_.data());
    const int fd = face_.call(BPF_PROG_LOAD, attr);
    if (fd >= 0) programs_.push_back(fd);
    return fd;
  }
  /// R0 of a run, or -errno - 100000 where it could not be run.
  int64_t run(int program) {
    std::byte packet[64] = {};
    bpf_attr attr = run_attr(program);
    attr.test.data_in = reinterpret_cast<uint64_t>(packet);
    attr.test.data_size_in = sizeof packet;
    const int result = face_.call(BPF_PROG_TEST_RUN, &attr, sizeof attr);
    return result < 0 ? result - 100'000 : static_cast<int32_t>(attr.test.retval);
  }
  int64_t run(uint32_t key, std::initializer_list<Code> body, Callback callback = Callback::kCount) {
    return run(load(key, body, callback));
  }

  int64_t init(uint32_t key, int32_t clock = 1) {
    using namespace assembler;
    return run(key, {mov(r1, r6), load_map(r2, static_cast<uint32_t>(map_)), mov(r3, clock), assembler::call(kInit)});
  }
  int64_t set_callback(uint32_t key, Callback callback = Callback::kCount) {
    using namespace assembler;
    return run(key, {mov(r1, r6), load_function(r2, 0), assembler::call(kSetCallback)}, callback);
  }
  int64_t start(uint32_t key, uint64_t nanoseconds, int32_t flags = 0) {
    using namespace assembler;
    return run(key, {mov(r1, r6), load_imm64(r2, nanoseconds), mov(r3, flags), assembler::call(kStart)});
  }
  int64_t cancel(uint32_t key) {
    using namespace assembler;
    return run(key, {mov(r1, r6), assembler::call(kCancel)});
  }
  /// init, set_callback and start; the first error.
  int64_t arm(uint32_t key, uint64_t nanoseconds, Callback callback = Callback::kCount) {
    for (const int64_t result : {init(key), set_callback(key, callback)}) {
      if (result != 0) return result;
    }
    return start(key, nanoseconds);
  }

 private:
  static void append(std::vector<bpf_insn>& code, const std::vector<bpf_insn>& more) {
    code.insert(code.end(), more.begin(), more.end());
  }
  [[nodiscard]] std::vector<bpf_insn> callback_code(Callback callback) const {
    using namespace assembler;
    std::vector<bpf_insn> code = assemble({mov(r6, r3), assembler::load(kW, r5, r2, 0), store(kDw, r6, 24, r5)});
    switch (callback) {
      case Callback::kCount:
        break;
      case Callback::kCancelItself:
        append(code, assemble({mov(r1, r6), assembler::call(kCancel), store(kDw, r6, 32, r0)}));
        break;
      case Callback::kGiven: {
        append(code, given_);
        append(code, assemble({store(kDw, r6, 32, r0)}));
        break;
      }
      case Callback::kRestart:  // every 100 us
        append(code,
               assemble({mov(r1, r6), mov(r2, 100'000), mov(r3, 0), assembler::call(kStart), store(kDw, r6, 32, r0)}));
        break;
    }
    for (size_t i = 0; i < code.size(); ++i) {  // the only function that a callback names is itself
      if (code[i].code == (kLd | kImm | kDw) && code[i].src_reg == BPF_PSEUDO_FUNC)
        code[i].imm = -static_cast<int32_t>(i) - 1;
    }
    append(code, assemble({assembler::load(kDw, r1, r6, 16), add(r1, 1), store(kDw, r6, 16, r1), mov(r0, 0), exit_()}));
    return code;
  }

  Face& face_;
  int btf_ = -1;
  int map_ = -1;
  uint32_t key_type_ = 0, value_type_ = 0, main_type_ = 0, callback_type_ = 0;
  std::vector<int> programs_;
  std::vector<bpf_insn> given_;
  std::string log_ = std::string(65536, '\0');
};

}  // namespace skep
