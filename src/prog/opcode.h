// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// The fields of bpf_insn::code and the numbers in imm that belong to them (Linux 6.18; standardised in RFC 9669).
namespace skep::opcode {

// Class: code & 7.
inline constexpr uint8_t kLd = 0x00, kLdx = 0x01, kSt = 0x02, kStx = 0x03, kAlu = 0x04, kJmp = 0x05, kJmp32 = 0x06,
                         kAlu64 = 0x07;
// Source of an operand: code & 8.
inline constexpr uint8_t kK = 0x00, kX = 0x08;
// Size of an access: code & 0x18.
inline constexpr uint8_t kW = 0x00, kH = 0x08, kB = 0x10, kDw = 0x18;
// Mode of an access: code & 0xe0.
inline constexpr uint8_t kImm = 0x00, kAbs = 0x20, kInd = 0x40, kMem = 0x60, kMemsx = 0x80, kAtomic = 0xc0;
// Operation of the arithmetic classes: code & 0xf0.
inline constexpr uint8_t kAdd = 0x00, kSub = 0x10, kMul = 0x20, kDiv = 0x30, kOr = 0x40, kAnd = 0x50, kLsh = 0x60,
                         kRsh = 0x70, kNeg = 0x80, kMod = 0x90, kXor = 0xa0, kMov = 0xb0, kArsh = 0xc0, kEnd = 0xd0;
// Operation of the jump classes: code & 0xf0.
inline constexpr uint8_t kJa = 0x00, kJeq = 0x10, kJgt = 0x20, kJge = 0x30, kJset = 0x40, kJne = 0x50, kJsgt = 0x60,
                         kJsge = 0x70, kCall = 0x80, kExit = 0x90, kJlt = 0xa0, kJle = 0xb0, kJslt = 0xc0, kJsle = 0xd0,
                         kJcond = 0xe0;
// imm of kAtomic.
inline constexpr int32_t kFetch = 0x01, kXchg = 0xe1, kCmpxchg = 0xf1, kLoadAcquire = 0x100, kStoreRelease = 0x110;

// off of kMov between the address spaces of an arena; imm says which: the source's number below, the target's above.
inline constexpr int16_t kAddressSpaceCast = 1;
inline constexpr int32_t kCastToKernel = 1, kCastToUser = 1 << 16;

// Registers.
inline constexpr uint8_t kFramePointer = 10;
inline constexpr uint8_t kRegisters = 11;

}  // namespace skep::opcode
