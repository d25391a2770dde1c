// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "prog/opcode.h"

/// Instructions for tests, one function each; programs are concatenations of them.
///
///   std::vector<bpf_insn> code = assemble({mov(r0, 1), alu(kAdd, r0, r1), exit_()});
///
/// ldimm64 and its kin are two instructions: `Code` holds either, so that they stand in the same list.
namespace skep::assembler {

using namespace opcode;

enum Register : uint8_t { r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10 };

/// One instruction or two that belong together.
struct Code {
  bpf_insn first{};
  bpf_insn second{};
  bool wide = false;
};

constexpr bpf_insn raw(int code, uint8_t dst, uint8_t src, int off, int64_t imm) {
  return {.code = static_cast<uint8_t>(code),
          .dst_reg = static_cast<uint8_t>(dst & 15),
          .src_reg = static_cast<uint8_t>(src & 15),
          .off = static_cast<int16_t>(off),
          .imm = static_cast<int32_t>(imm)};
}
constexpr Code one(bpf_insn insn) { return {insn, {}, false}; }

// 64-bit arithmetic: `operation` is opcode::kAdd ...; `off` 1 makes kDiv and kMod signed.
constexpr Code alu(uint8_t operation, Register dst, Register src, int off = 0) {
  return one(raw(kAlu64 | operation | kX, dst, src, off, 0));
}
constexpr Code alu(uint8_t operation, Register dst, int32_t imm, int off = 0) {
  return one(raw(kAlu64 | operation | kK, dst, 0, off, imm));
}
constexpr Code alu32(uint8_t operation, Register dst, Register src, int off = 0) {
  return one(raw(kAlu | operation | kX, dst, src, off, 0));
}
constexpr Code alu32(uint8_t operation, Register dst, int32_t imm, int off = 0) {
  return one(raw(kAlu | operation | kK, dst, 0, off, imm));
}
constexpr Code mov(Register dst, Register src) { return alu(kMov, dst, src); }
constexpr Code mov(Register dst, int32_t imm) { return alu(kMov, dst, imm); }
constexpr Code mov32(Register dst, Register src) { return alu32(kMov, dst, src); }
constexpr Code mov32(Register dst, int32_t imm) { return alu32(kMov, dst, imm); }
constexpr Code add(Register dst, int32_t imm) { return alu(kAdd, dst, imm); }
constexpr Code add(Register dst, Register src) { return alu(kAdd, dst, src); }
constexpr Code negate(Register dst) { return alu(kNeg, dst, 0); }
/// A pointer into the arena: one that the program may follow, one that clients may.
constexpr Code cast_kernel(Register dst, Register src) {
  return one(raw(kAlu64 | kMov | kX, dst, src, kAddressSpaceCast, kCastToKernel));
}
constexpr Code cast_user(Register dst, Register src) {
  return one(raw(kAlu64 | kMov | kX, dst, src, kAddressSpaceCast, kCastToUser));
}
/// Sign-extending move of the low `bits` (8, 16, 32).
constexpr Code movsx(Register dst, Register src, int bits) { return alu(kMov, dst, src, bits); }
constexpr Code movsx32(Register dst, Register src, int bits) { return alu32(kMov, dst, src, bits); }
/// Byte order: to little endian, to big endian, unconditional swap; `bits` is 16, 32 or 64.
constexpr Code le(Register dst, int bits) { return one(raw(kAlu | kEnd | kK, dst, 0, 0, bits)); }
constexpr Code be(Register dst, int bits) { return one(raw(kAlu | kEnd | kX, dst, 0, 0, bits)); }
constexpr Code bswap(Register dst, int bits) { return one(raw(kAlu64 | kEnd | kK, dst, 0, 0, bits)); }

// Memory: `size` is opcode::kB, kH, kW or kDw.
constexpr Code load(uint8_t size, Register dst, Register base, int off) {
  return one(raw(kLdx | kMem | size, dst, base, off, 0));
}
constexpr Code load_signed(uint8_t size, Register dst, Register base, int off) {
  return one(raw(kLdx | kMemsx | size, dst, base, off, 0));
}
constexpr Code store(uint8_t size, Register base, int off, Register src) {
  return one(raw(kStx | kMem | size, base, src, off, 0));
}
constexpr Code store(uint8_t size, Register base, int off, int32_t imm) {
  return one(raw(kSt | kMem | size, base, 0, off, imm));
}
/// `operation` is kAdd, kOr, kAnd or kXor, with kFetch or without; kXchg, kCmpxchg.
constexpr Code atomic(uint8_t size, int32_t operation, Register base, int off, Register src) {
  return one(raw(kStx | kAtomic | size, base, src, off, operation));
}
constexpr Code load_acquire(uint8_t size, Register dst, Register base, int off) {
  return one(raw(kStx | kAtomic | size, dst, base, off, kLoadAcquire));
}
constexpr Code store_release(uint8_t size, Register base, int off, Register src) {
  return one(raw(kStx | kAtomic | size, base, src, off, kStoreRelease));
}
/// The packet loads of classic BPF: R0 = the big-endian value at imm, or at src + imm; R6 must hold the context.
constexpr Code load_absolute(uint8_t size, int32_t imm) { return one(raw(kLd | kAbs | size, 0, 0, 0, imm)); }
constexpr Code load_indirect(uint8_t size, Register src, int32_t imm) {
  return one(raw(kLd | kInd | size, 0, src, 0, imm));
}

// Wide loads. A map is named by its index in ProgramDescription::maps, or by its descriptor for bpf(2).
constexpr Code wide(Register dst, uint8_t src, uint32_t low, uint32_t high) {
  return {raw(kLd | kImm | kDw, dst, src, 0, static_cast<int32_t>(low)), raw(0, 0, 0, 0, static_cast<int32_t>(high)),
          true};
}
constexpr Code load_imm64(Register dst, uint64_t value) {
  return wide(dst, 0, static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32));
}
constexpr Code load_map(Register dst, uint32_t map) { return wide(dst, BPF_PSEUDO_MAP_FD, map, 0); }
constexpr Code load_map_value(Register dst, uint32_t map, uint32_t offset) {
  return wide(dst, BPF_PSEUDO_MAP_VALUE, map, offset);
}
/// The address of a function, `distance` instructions after the first half of this one, less one.
constexpr Code load_function(Register dst, int32_t distance) {
  return wide(dst, BPF_PSEUDO_FUNC, static_cast<uint32_t>(distance), 0);
}

// Jumps: `off` counts instructions from the one after the jump.
constexpr Code jump(int off) { return one(raw(kJmp | kJa, 0, 0, off, 0)); }
constexpr Code jump_long(int32_t distance) { return one(raw(kJmp32 | kJa, 0, 0, 0, distance)); }
constexpr Code jump_if(uint8_t operation, Register dst, Register src, int off) {
  return one(raw(kJmp | operation | kX, dst, src, off, 0));
}
constexpr Code jump_if(uint8_t operation, Register dst, int32_t imm, int off) {
  return one(raw(kJmp | operation | kK, dst, 0, off, imm));
}
constexpr Code jump_if32(uint8_t operation, Register dst, Register src, int off) {
  return one(raw(kJmp32 | operation | kX, dst, src, off, 0));
}
constexpr Code jump_if32(uint8_t operation, Register dst, int32_t imm, int off) {
  return one(raw(kJmp32 | operation | kK, dst, 0, off, imm));
}
/// The indirect jump.
constexpr Code gotox(Register dst) { return one(raw(kJmp | kJa | kX, dst, 0, 0, 0)); }
constexpr Code may_goto(int off) { return one(raw(kJmp | kJcond, 0, 0, off, 0)); }
constexpr Code call(int32_t helper) { return one(raw(kJmp | kCall, 0, 0, 0, helper)); }
/// Calls the function `distance` instructions after the next one.
constexpr Code call_function(int32_t distance) { return one(raw(kJmp | kCall, 0, BPF_PSEUDO_CALL, 0, distance)); }
/// Calls the kernel function with that type id in the BTF of the running kernel.
constexpr Code call_kernel(uint32_t btf_id) { return one(raw(kJmp | kCall, 0, BPF_PSEUDO_KFUNC_CALL, 0, btf_id)); }
constexpr Code exit_() { return one(raw(kJmp | kExit, 0, 0, 0, 0)); }

inline std::vector<bpf_insn> assemble(std::initializer_list<Code> codes) {
  std::vector<bpf_insn> out;
  for (const Code& code : codes) {
    out.push_back(code.first);
    if (code.wide) out.push_back(code.second);
  }
  return out;
}

}  // namespace skep::assembler
