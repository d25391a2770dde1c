// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "prog/context_access.h"
#include "prog/decode.h"
#include "prog/helper.h"
#include "prog/opcode.h"
#include "prog/records.h"
#include "prog/regions.h"
#include "prog/run_objects.h"
#include "prog/runtime.h"
#include "prog/task_work.h"
#include "prog/timers.h"

namespace skep {

/// One run of a program: its registers, its stack, the memory that it may touch, and how it ends. This is what the
/// interpreter works on and what helpers see.
///
/// What it is: a machine with eight frames. Addresses in registers are real addresses; each access is resolved against
///   Regions (regions.h) or, where it falls on the context of a packet program, against the field table of
///   context_access.h. For each base register the last region that served it is kept in a Window, so that the common
///   check is one subtraction and one comparison.
/// Layout:
///   frames_[d].registers   R0..R10 of call depth d        R10 = stack_ + (d + 1) * 512
///   stack_[d * 512 .. )    the frame's 512 bytes, zeroed when the frame is entered
/// Invariants:
///   1. A Window lies inside a region that this run was given, or is closed; it never covers special fields of values.
///   2. After stop() nothing of the program is executed any more; the first reason is kept.
///   3. At the end of a run no lock is held and no record is reserved.
/// Progress: bounded by the instruction budget; each taken backward jump is charged the length of the jump, each return
///   the distance from the function's entry, so that the charge is never less than what was executed.
/// Locks: at most one value lock (ValueLock) and 31 resilient ones (ResilientLock), and no helper but those that lock
/// or
///   unlock is called while one is held.
class Run {
 public:
  static constexpr uint32_t kFrames = 8;
  static constexpr uint32_t kFrameSize = 512;
  static constexpr uint64_t kMaxLoops = uint64_t{1} << 23;
  static constexpr uint32_t kMaxTailCalls = 33;

  using Registers = std::array<uint64_t, opcode::kRegisters>;
  struct Frame {
    Registers registers;
    const DecodedCode* code;  // what the frame's function belongs to: tail calls change it
    const Instruction* return_to;
    uint32_t entry;  // index of the function's first instruction
    uint32_t may_goto_left;
  };

  /// The last region that an access through one base register fell into, [start, start + span + 8): at least 8 bytes,
  /// so that one comparison is enough. A closed window lies over eight bytes that belong to the run and mean nothing.
  struct Window {
    uint64_t start;
    uint64_t span;
    [[nodiscard]] bool covers(uint64_t address, uint32_t size) const { return address - start <= span + (8 - size); }
  };

  /// Runs and leaves how it ended in stopped(). Returns R0.
  uint64_t start(const DecodedCode& code, const Lease& lease, const RunContext& context,
                 const RunEnvironment& environment);
  /// The same from the beginning of a function that gets (map, key, value) and no context.
  uint64_t start_callback(const DecodedCode& code, uint32_t function, const MapBinding& map, const void* key,
                          void* value, const Lease& lease, const RunEnvironment& environment);
  [[nodiscard]] int stopped() const { return stop_error_; }
  [[nodiscard]] const std::string& reason() const { return stop_reason_; }
  [[nodiscard]] uint64_t charged() const { return static_cast<uint64_t>(limit_ - budget_); }

  // -- for the interpreter ------------------------------------------------------------------------------------------
  [[nodiscard]] const DecodedCode& code() const { return *code_; }
  [[nodiscard]] Frame& frame() { return frames_[depth_]; }
  /// Enters the function at decoded `index`, arguments in the new frame's R1..R5; false: stopped, too deep.
  bool push_frame(uint32_t index, const uint64_t* arguments, const Instruction* return_to);
  void pop_frame() {
    --depth_;
    regions_.set_stack_length((depth_ + 1) * uint64_t{kFrameSize});
  }
  /// After pop_frame(): the code that is returned to. Where that is another program's (a tail call in a function), the
  /// current instruction is one of it as well.
  const DecodedCode& resume() {
    if (code_ != frame().code) {
      code_ = frame().code;
      current_ = code_->instructions.data();
    }
    return *code_;
  }
  [[nodiscard]] uint32_t depth() const { return depth_; }
  /// What is left to execute; the interpreter keeps it in a register and writes it back around calls.
  int64_t& budget() { return budget_; }
  Window& read_window(uint8_t base) { return read_windows_[base]; }
  Window& write_window(uint8_t base) { return write_windows_[base]; }
  /// The instruction that a helper or a check works for: what stop() names.
  void set_current(const Instruction* instruction) { current_ = instruction; }

  /// Load and store where no window covers the address. False: stopped.
  bool load(uint8_t base, uint64_t address, uint32_t size, uint64_t& value);
  bool store(uint8_t base, uint64_t address, uint32_t size, uint64_t value);
  /// BPF_LD | BPF_ABS / BPF_IND. False: stopped, or (not stopped) past the packet's end, which ends the function.
  bool load_packet(uint32_t size, int32_t offset, uint64_t& value);
  /// BPF_ATOMIC, all of them. False: stopped.
  bool atomic(const Instruction& instruction, Registers& registers);
  uint64_t call_helper(const Helper& helper, const uint64_t* registers);
  uint64_t call_lookup(const uint64_t* registers);
  /// bpf_tail_call(): true: the frame is now that of another program, at its beginning. False: stopped, or (not
  /// stopped) there is no such program or no call left, and the program goes on.
  bool tail_call(const uint64_t* registers);
  /// Calls back into the program from a helper.
  uint64_t call_function(const FunctionEntry& function, uint64_t a, uint64_t b, uint64_t c, uint64_t d = 0);

  // -- for helpers --------------------------------------------------------------------------------------------------
  [[nodiscard]] const Lease& lease() const { return *lease_; }
  [[nodiscard]] const RunEnvironment& environment() const { return *environment_; }
  /// A frame of the thread's own stack: whoever runs the program is outside it.
  [[nodiscard]] const void* entry_frame() const { return entry_frame_; }
  [[nodiscard]] SkbContext* skb() const { return context_.skb(); }
  [[nodiscard]] XdpContext* xdp() const { return context_.xdp(); }
  [[nodiscard]] bool readable(uint64_t address, uint64_t size) { return reachable(address, size, Region::kRead); }
  [[nodiscard]] bool writable(uint64_t address, uint64_t size) { return reachable(address, size, Region::kWrite); }
  /// The same, and bytes of a map's value, which stay where they are until the run ends.
  [[nodiscard]] bool writable_value(uint64_t address, uint64_t size) {
    const Region* region = reach(address, size, Region::kWrite);
    return region != nullptr && region->binding != nullptr;
  }
  /// The characters before the first NUL inside the region at `address`; none: not readable or no NUL.
  [[nodiscard]] std::optional<std::string_view> text(uint64_t address);
  /// Lets the program use a value that a lookup found; returns its address.
  uint64_t grant_value(const MapBinding& binding, void* value);
  /// Lets the program read `size` bytes that stay valid for the rest of the run.
  void grant_constant(const void* data, uint64_t size);
  /// Lets the program read and write memory that helpers gave it, until it is revoked.
  void grant_memory(const void* data, uint64_t size);
  void revoke_memory(const void* data, uint64_t size);
  /// Whether the bytes belong to the frames of the program that are in use.
  [[nodiscard]] bool on_stack(uint64_t address, uint64_t size) const {
    const uint64_t offset = address - reinterpret_cast<uint64_t>(stack_.data());
    return offset < (depth_ + 1) * uint64_t{kFrameSize} && size <= (depth_ + 1) * uint64_t{kFrameSize} - offset;
  }
  /// Ring buffer records that are not submitted, and dynamic pointers.
  Records& records() { return records_; }
  /// The packet was moved or resized: pointers into it are resolved anew.
  void packet_changed();
  uint64_t lock_value(uint64_t address);
  uint64_t unlock_value(uint64_t address);
  /// Tasks, cgroups and sockets that the program names.
  RunObjects& objects() { return objects_; }
  /// The bpf_task_work that was checked to be at `address`, with a callback.
  TaskWork::Item task_work_at(uint64_t address, const FunctionEntry& function);
  /// bpf_res_spin_lock() and unlock of the lock at `address`: 0, -EDEADLK: held already; -ETIMEDOUT.
  int64_t lock_resilient(uint64_t address);
  void unlock_resilient(uint64_t address);
  /// The place of the bpf_timer that an argument was found to be, and the value that holds it.
  [[nodiscard]] TimerPlace timer_at(uint64_t address);
  /// Memory for an array index that a callback gets as its key, one per depth.
  uint64_t& callback_key() { return callback_keys_[depth_]; }

  /// Ends the run with `error`; `reason` completes "insn 7: ...".
  [[gnu::cold]] void stop(int error, std::string_view reason);

 private:
  void begin(const DecodedCode& code, const Lease& lease, const RunContext& context, const RunEnvironment& environment);
  uint64_t finish(uint64_t result);
  /// Whether a register holds the context of this run.
  [[nodiscard]] bool is_context(uint64_t value) const { return has_context_ && value == context_.address(); }
  void enter(uint32_t index, const uint64_t* arguments, const Instruction* return_to);
  /// bpf_map_lookup_elem() on a map whose values are not bytes.
  uint64_t lookup_reference(const MapBinding& map, const void* key);
  uint64_t lookup_device(const MapBinding& map, const void* key);
  [[nodiscard]] const MapBinding* inner_map(const MapBinding& outer, const void* key) const;
  /// The region that allows the access; null when there is none.
  [[nodiscard]] const Region* reach(uint64_t address, uint64_t size, uint8_t right);
  [[nodiscard]] static bool touches_fields(const Region& region, uint64_t address, uint64_t size);
  [[nodiscard]] bool reachable(uint64_t address, uint64_t size, uint8_t right);
  [[nodiscard]] const MapBinding* map_at(uint64_t value) const;
  [[nodiscard]] const FunctionEntry* function_at(uint64_t value) const;
  /// What is wrong with argument `index` (0..4); null when nothing is. `map` is the map argument seen so far.
  const char* check_argument(const Helper& helper, uint32_t index, const uint64_t* registers, const MapBinding*& map);
  const char* check_memory(const Helper& helper, uint32_t index, const uint64_t* registers);
  const char* check_object(uint64_t value, RunObjects::Kind kind, bool or_null, bool own);
  void grant(const Region& region);
  static void open_window(Window& window, const Region& region);
  void close_windows();
  [[gnu::cold]] void stop_access(uint64_t address, uint64_t size, std::string_view verb);
  void release_lock();
  [[nodiscard]] bool holds_lock() const { return lock_ != nullptr || resilient_held_ != 0; }
  /// The value whose special field of `size` bytes is at `address`; null: there is none.
  [[nodiscard]] const Region* field_region(uint64_t address, uint32_t ValueFields::*field, uint64_t size);
  [[nodiscard]] const MapBinding* field_map(uint64_t address, uint32_t ValueFields::*field, uint64_t size);
  /// Whether the access at `address`, off the register value `pointer`, is one to the program's arena. `place`: its
  /// memory; null: the arena has no page there, so loads are zero and stores have no effect.
  [[nodiscard]] bool in_arena(uint64_t pointer, uint64_t address, uint32_t size, std::byte*& place) const;
  [[nodiscard]] const std::byte* packet_at(const SkbContext& skb, int32_t offset, uint32_t size) const;

  const DecodedCode* code_ = nullptr;
  const Lease* lease_ = nullptr;
  const RunEnvironment* environment_ = nullptr;
  const void* entry_frame_ = nullptr;
  const Instruction* current_ = nullptr;
  int64_t budget_ = 0;
  int64_t limit_ = 0;
  uint32_t depth_ = 0;
  uint32_t tail_calls_ = 0;
  int stop_error_ = 0;
  bool has_context_ = true;  // callbacks of timers have none
  std::atomic<uint32_t>* lock_ = nullptr;
  uint32_t resilient_held_ = 0;
  std::array<std::atomic<uint32_t>*, 31> resilient_;  // in the order in which they were taken
  std::array<Window, opcode::kRegisters> read_windows_;
  std::array<Window, opcode::kRegisters> write_windows_;
  ContextAccess context_;
  Regions regions_;
  Records records_;
  RunObjects objects_;
  uint64_t scrap_ = 0;  // what closed windows lie over
  std::array<uint64_t, kFrames> callback_keys_{};
  std::array<Frame, kFrames> frames_;
  std::string stop_reason_;
  alignas(64) std::array<std::byte, kFrames * kFrameSize> stack_;
};

/// Executes from decoded `index` in the frame that was pushed for it until that frame returns; its R0.
uint64_t interpret(Run& run, uint32_t index);

}  // namespace skep
