// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cstring>

#include "prog/operations.h"
#include "prog/run.h"

// Labels as values: what makes one indirect jump per instruction, each with its own branch prediction.
#pragma GCC diagnostic ignored "-Wpedantic"

namespace skep {
namespace {

// Arithmetic as BPF defines it: nothing traps, division by zero gives 0, remainder by zero the dividend, shift counts
// wrap. `T` is uint64_t or uint32_t.
template <class T>
using Signed = std::make_signed_t<T>;
template <class T>
constexpr unsigned kBits = sizeof(T) * 8;

template <class T>
T apply_Add(T a, T b) {
  return static_cast<T>(a + b);
}
template <class T>
T apply_Sub(T a, T b) {
  return static_cast<T>(a - b);
}
template <class T>
T apply_Mul(T a, T b) {
  return static_cast<T>(a * b);
}
template <class T>
T apply_Div(T a, T b) {
  return b == 0 ? 0 : static_cast<T>(a / b);
}
template <class T>
T apply_Mod(T a, T b) {
  return b == 0 ? a : static_cast<T>(a % b);
}
template <class T>
T apply_Sdiv(T a, T b) {
  if (b == 0) return 0;
  if (b == static_cast<T>(-1)) return static_cast<T>(0 - a);  // the one case in which the quotient overflows
  return static_cast<T>(static_cast<Signed<T>>(a) / static_cast<Signed<T>>(b));
}
template <class T>
T apply_Smod(T a, T b) {
  if (b == 0) return a;
  if (b == static_cast<T>(-1)) return 0;
  return static_cast<T>(static_cast<Signed<T>>(a) % static_cast<Signed<T>>(b));
}
template <class T>
T apply_Or(T a, T b) {
  return a | b;
}
template <class T>
T apply_And(T a, T b) {
  return a & b;
}
template <class T>
T apply_Xor(T a, T b) {
  return a ^ b;
}
template <class T>
T apply_Lsh(T a, T b) {
  return static_cast<T>(a << (b % kBits<T>));
}
template <class T>
T apply_Rsh(T a, T b) {
  return static_cast<T>(a >> (b % kBits<T>));
}
template <class T>
T apply_Arsh(T a, T b) {
  return static_cast<T>(static_cast<Signed<T>>(a) >> (b % kBits<T>));
}
template <class T>
T apply_Mov(T, T b) {
  return b;
}

template <class T>
bool test_Jeq(T a, T b) {
  return a == b;
}
template <class T>
bool test_Jne(T a, T b) {
  return a != b;
}
template <class T>
bool test_Jgt(T a, T b) {
  return a > b;
}
template <class T>
bool test_Jge(T a, T b) {
  return a >= b;
}
template <class T>
bool test_Jlt(T a, T b) {
  return a < b;
}
template <class T>
bool test_Jle(T a, T b) {
  return a <= b;
}
template <class T>
bool test_Jset(T a, T b) {
  return (a & b) != 0;
}
template <class T>
bool test_Jsgt(T a, T b) {
  return static_cast<Signed<T>>(a) > static_cast<Signed<T>>(b);
}
template <class T>
bool test_Jsge(T a, T b) {
  return static_cast<Signed<T>>(a) >= static_cast<Signed<T>>(b);
}
template <class T>
bool test_Jslt(T a, T b) {
  return static_cast<Signed<T>>(a) < static_cast<Signed<T>>(b);
}
template <class T>
bool test_Jsle(T a, T b) {
  return static_cast<Signed<T>>(a) <= static_cast<Signed<T>>(b);
}

using SizeB = uint8_t;
using SizeH = uint16_t;
using SizeW = uint32_t;
using SizeDw = uint64_t;

/// Plain accesses of a program, aligned or not. Other threads and processes may access the same bytes: that is the
/// program's own affair, as in the kernel, so ThreadSanitizer is not asked.
template <class T>
[[gnu::always_inline]] inline T read_memory(uint64_t address) {
  T value;
  std::memcpy(&value, reinterpret_cast<const void*>(address), sizeof value);
  return value;
}
template <class T>
[[gnu::always_inline]] inline void write_memory(uint64_t address, uint64_t value) {
  const T narrow = static_cast<T>(value);
  std::memcpy(reinterpret_cast<void*>(address), &narrow, sizeof narrow);
}

}  // namespace

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SKEP_UNCHECKED_RACES __attribute__((no_sanitize("thread")))
#endif
#endif
#ifndef SKEP_UNCHECKED_RACES
#define SKEP_UNCHECKED_RACES
#endif

// Next instruction; a jump that was taken. Jumps backward, and to themselves, pay for the instructions they repeat.
#define NEXT()                                          \
  do {                                                  \
    ++pc;                                               \
    goto* labels[static_cast<unsigned>(pc->operation)]; \
  } while (false)
#define TAKE_JUMP()                                                        \
  do {                                                                     \
    const int64_t distance = pc->offset;                                   \
    pc += distance;                                                        \
    if (distance <= 0 && (budget += distance - 1) < 0) goto out_of_budget; \
    goto* labels[static_cast<unsigned>(pc->operation)];                    \
  } while (false)
// Around everything that may read the budget or stop the run.
#define LEAVE()            \
  do {                     \
    run.budget() = budget; \
    run.set_current(pc);   \
  } while (false)

#define DST (*registers)[pc->dst]
#define SRC (*registers)[pc->src]

SKEP_UNCHECKED_RACES uint64_t interpret(Run& run, uint32_t index) {
#define SKEP_LABEL(name) &&do_##name,
#define SKEP_FOUR_WIDTHS_SKEP_LABEL(name) &&do_##name##64X, &&do_##name##64K, &&do_##name##32X, &&do_##name##32K,
#define SKEP_ACCESSES_SKEP_LABEL(size)                                                                 \
  &&do_Load##size, &&do_LoadStack##size, &&do_Store##size, &&do_StoreStack##size, &&do_StoreImm##size, \
      &&do_StoreImmStack##size,
  static const void* const labels[] = {SKEP_OPERATIONS(SKEP_LABEL)};

  const Instruction* code = run.code().instructions.data();
  const Instruction* pc = code + index;
  const uint32_t outermost = run.depth();
  auto* registers = &run.frame().registers;
  int64_t budget = run.budget();

  goto* labels[static_cast<unsigned>(pc->operation)];

#define SKEP_DO_ARITHMETIC(name)                                                                             \
  do_##name##64X : DST = apply_##name<uint64_t>(DST, SRC);                                                   \
  NEXT();                                                                                                    \
  do_##name##64K : DST = apply_##name<uint64_t>(DST, static_cast<uint64_t>(pc->imm));                        \
  NEXT();                                                                                                    \
  do_##name##32X : DST = apply_##name<uint32_t>(static_cast<uint32_t>(DST), static_cast<uint32_t>(SRC));     \
  NEXT();                                                                                                    \
  do_##name##32K : DST = apply_##name<uint32_t>(static_cast<uint32_t>(DST), static_cast<uint32_t>(pc->imm)); \
  NEXT();
  SKEP_ARITHMETIC(SKEP_DO_ARITHMETIC)

#define SKEP_DO_CONDITION(name)                                                                                        \
  do_##name##64X : if (test_##name<uint64_t>(DST, SRC)) TAKE_JUMP();                                                   \
  NEXT();                                                                                                              \
  do_##name##64K : if (test_##name<uint64_t>(DST, static_cast<uint64_t>(pc->imm))) TAKE_JUMP();                        \
  NEXT();                                                                                                              \
  do_##name##32X : if (test_##name<uint32_t>(static_cast<uint32_t>(DST), static_cast<uint32_t>(SRC))) TAKE_JUMP();     \
  NEXT();                                                                                                              \
  do_##name##32K : if (test_##name<uint32_t>(static_cast<uint32_t>(DST), static_cast<uint32_t>(pc->imm))) TAKE_JUMP(); \
  NEXT();
  SKEP_CONDITIONS(SKEP_DO_CONDITION)

#define SKEP_DO_STORE(size, value)                                                  \
  {                                                                                 \
    const uint64_t address = DST + static_cast<uint64_t>(int64_t{pc->offset});      \
    if (run.write_window(pc->dst).covers(address, sizeof(Size##size))) [[likely]] { \
      write_memory<Size##size>(address, value);                                     \
      NEXT();                                                                       \
    }                                                                               \
    LEAVE();                                                                        \
    if (!run.store(pc->dst, address, sizeof(Size##size), value)) goto stopped;      \
    NEXT();                                                                         \
  }
#define SKEP_DO_ACCESSES(size)                                                                                      \
  do_Load##size : {                                                                                                 \
    const uint64_t address = SRC + static_cast<uint64_t>(int64_t{pc->offset});                                      \
    if (run.read_window(pc->src).covers(address, sizeof(Size##size))) [[likely]] {                                  \
      DST = read_memory<Size##size>(address);                                                                       \
      NEXT();                                                                                                       \
    }                                                                                                               \
    LEAVE();                                                                                                        \
    if (!run.load(pc->src, address, sizeof(Size##size), DST)) goto stopped;                                         \
    NEXT();                                                                                                         \
  }                                                                                                                 \
  do_LoadStack##size : DST = read_memory<Size##size>(SRC + static_cast<uint64_t>(int64_t{pc->offset}));             \
  NEXT();                                                                                                           \
  do_Store##size : SKEP_DO_STORE(size, SRC) do_StoreImm##size : SKEP_DO_STORE(size, static_cast<uint64_t>(pc->imm)) \
                                                                    do_StoreStack##size                             \
      : write_memory<Size##size>(DST + static_cast<uint64_t>(int64_t{pc->offset}), SRC);                            \
  NEXT();                                                                                                           \
  do_StoreImmStack##size                                                                                            \
      : write_memory<Size##size>(DST + static_cast<uint64_t>(int64_t{pc->offset}), static_cast<uint64_t>(pc->imm)); \
  NEXT();
  SKEP_SIZES(SKEP_DO_ACCESSES)

#define SKEP_DO_SIGNED_LOAD(size)                                                              \
  do_LoadSigned##size : {                                                                      \
    const uint64_t address = SRC + static_cast<uint64_t>(int64_t{pc->offset});                 \
    uint64_t value;                                                                            \
    if (run.read_window(pc->src).covers(address, sizeof(Size##size))) [[likely]] {             \
      value = read_memory<Size##size>(address);                                                \
    } else {                                                                                   \
      LEAVE();                                                                                 \
      if (!run.load(pc->src, address, sizeof(Size##size), value)) goto stopped;                \
    }                                                                                          \
    DST = static_cast<uint64_t>(static_cast<int64_t>(static_cast<Signed<Size##size>>(value))); \
    NEXT();                                                                                    \
  }
  SKEP_DO_SIGNED_LOAD(B)
  SKEP_DO_SIGNED_LOAD(H)
  SKEP_DO_SIGNED_LOAD(W)

do_Neg64:
  DST = 0 - DST;
  NEXT();
do_Neg32:
  DST = static_cast<uint32_t>(0 - static_cast<uint32_t>(DST));
  NEXT();
do_Movsx8:
  DST = static_cast<uint64_t>(int64_t{static_cast<int8_t>(SRC)});
  NEXT();
do_Movsx16:
  DST = static_cast<uint64_t>(int64_t{static_cast<int16_t>(SRC)});
  NEXT();
do_Movsx32:
  DST = static_cast<uint64_t>(int64_t{static_cast<int32_t>(SRC)});
  NEXT();
do_Movsx8To32:
  DST = static_cast<uint32_t>(int32_t{static_cast<int8_t>(SRC)});
  NEXT();
do_Movsx16To32:
  DST = static_cast<uint32_t>(int32_t{static_cast<int16_t>(SRC)});
  NEXT();
do_Truncate16:
  DST = static_cast<uint16_t>(DST);
  NEXT();
do_Swap16:
  DST = __builtin_bswap16(static_cast<uint16_t>(DST));
  NEXT();
do_Swap32:
  DST = __builtin_bswap32(static_cast<uint32_t>(DST));
  NEXT();
do_Swap64:
  DST = __builtin_bswap64(DST);
  NEXT();

do_Ja:
  TAKE_JUMP();
do_Gotox : {
  const Instruction* const to = run.code().landing(DST, run.frame().entry);
  LEAVE();
  if (to == nullptr) [[unlikely]] {
    run.stop(EFAULT, "gotox: the register does not hold an instruction of this function from an array of them");
    goto stopped;
  }
  const int64_t distance = to - pc;
  pc = to;
  if (distance <= 0 && (budget += distance - 1) < 0) goto out_of_budget;
  goto* labels[static_cast<unsigned>(pc->operation)];
}
do_MayGoto:
  if (run.frame().may_goto_left == 0) TAKE_JUMP();
  --run.frame().may_goto_left;
  NEXT();

do_CallLookup:
  LEAVE();
  (*registers)[0] = run.call_lookup(registers->data());
  if (run.stopped() != 0) [[unlikely]]
    goto stopped;
  NEXT();
do_CallTail : {
  LEAVE();
  const int64_t distance = pc - (code + run.frame().entry) + 1;
  if (!run.tail_call(registers->data())) {
    if (run.stopped() != 0) goto stopped;
    NEXT();
  }
  code = pc = run.code().instructions.data();
  budget -= distance;
  if (budget < 0) [[unlikely]]
    goto out_of_budget;
  goto* labels[static_cast<unsigned>(pc->operation)];
}
do_CallHelper:
  LEAVE();
  (*registers)[0] = run.call_helper(*reinterpret_cast<const Helper*>(pc->imm), registers->data());
  if (run.stopped() != 0) [[unlikely]]
    goto stopped;
  budget = run.budget();
  NEXT();
do_CallFunction:
  LEAVE();
  if (!run.push_frame(static_cast<uint32_t>(pc->imm), registers->data() + 1, pc + 1)) goto stopped;
  registers = &run.frame().registers;
  pc = code + pc->imm;
  goto* labels[static_cast<unsigned>(pc->operation)];
do_Exit : {
  const Run::Frame& frame = run.frame();
  budget -= pc - (code + frame.entry) + 1;
  if (budget < 0) [[unlikely]]
    goto out_of_budget;
  const uint64_t result = frame.registers[0];
  pc = frame.return_to;
  const bool outer = run.depth() == outermost;
  run.pop_frame();
  if (outer) {
    run.budget() = budget;
    return result;
  }
  code = run.resume().instructions.data();
  registers = &run.frame().registers;
  (*registers)[0] = result;
  goto* labels[static_cast<unsigned>(pc->operation)];
}

do_Atomic:
  LEAVE();
  if (!run.atomic(*pc, *registers)) goto stopped;
  NEXT();
do_LoadPacket : {
  LEAVE();
  const auto base = pc->offset != 0 ? static_cast<uint32_t>(SRC) : 0;
  const auto offset = static_cast<int32_t>(base + static_cast<uint32_t>(pc->imm));
  (*registers)[0] = 0;
  if (run.load_packet(pc->dst, offset, (*registers)[0])) NEXT();
  if (run.stopped() != 0) goto stopped;
  goto do_Exit;
}
do_CastUser:
  DST = static_cast<uint32_t>(SRC) == 0 ? 0 : static_cast<uint64_t>(pc->imm) | static_cast<uint32_t>(SRC);
  NEXT();

out_of_budget:
  LEAVE();
  run.stop(ELOOP, "the program ran for more instructions than its limit");
stopped:
  return 0;
}

}  // namespace skep
