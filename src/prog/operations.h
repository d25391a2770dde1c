// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// The operations of decoded code. One name per combination that the interpreter handles by itself, so that nothing
/// about an instruction is decided twice: class, width, kind of operand, and whether the address is a constant distance
/// from the frame pointer (which needs no check at run time).

// Arithmetic: each with a register (X) or an immediate (K), 64 and 32 bits wide.
#define SKEP_ARITHMETIC(V) \
  V(Add) V(Sub) V(Mul) V(Div) V(Sdiv) V(Or) V(And) V(Lsh) V(Rsh) V(Mod) V(Smod) V(Xor) V(Mov) V(Arsh)

// Conditional jumps: likewise.
#define SKEP_CONDITIONS(V) V(Jeq) V(Jgt) V(Jge) V(Jset) V(Jne) V(Jsgt) V(Jsge) V(Jlt) V(Jle) V(Jslt) V(Jsle)

// Accesses of 1, 2, 4 and 8 bytes.
#define SKEP_SIZES(V) V(B) V(H) V(W) V(Dw)

// Everything that stands alone.
#define SKEP_SINGLES(V)                                                                                           \
  V(Neg64)                                                                                                        \
  V(Neg32)                                                                                                        \
  V(Movsx8)                                                                                                       \
  V(Movsx16)                                                                                                      \
  V(Movsx32)                                                                                                      \
  V(Movsx8To32)                                                                                                   \
  V(Movsx16To32) V(Truncate16) V(Swap16) V(Swap32) V(Swap64) V(LoadSignedB) V(LoadSignedH) V(LoadSignedW) V(Ja)   \
      V(Gotox) V(MayGoto) V(CallHelper) V(CallLookup) V(CallTail) V(CallFunction) V(Exit) V(Atomic) V(LoadPacket) \
          V(CastUser)

#define SKEP_OPERATIONS(V)              \
  SKEP_ARITHMETIC(SKEP_FOUR_WIDTHS_##V) \
  SKEP_CONDITIONS(SKEP_FOUR_WIDTHS_##V) \
  SKEP_SIZES(SKEP_ACCESSES_##V)         \
  SKEP_SINGLES(V)

namespace skep {

#define SKEP_NAME(name) k##name,
#define SKEP_FOUR_WIDTHS_SKEP_NAME(name) k##name##64X, k##name##64K, k##name##32X, k##name##32K,
#define SKEP_ACCESSES_SKEP_NAME(size) \
  kLoad##size, kLoadStack##size, kStore##size, kStoreStack##size, kStoreImm##size, kStoreImmStack##size,

/// The four variants of one arithmetic operation or condition follow each other as 64X, 64K, 32X, 32K; the six
/// accesses of one size as Load, LoadStack, Store, StoreStack, StoreImm, StoreImmStack.
enum class Operation : uint16_t { SKEP_OPERATIONS(SKEP_NAME) };

#undef SKEP_NAME
#undef SKEP_FOUR_WIDTHS_SKEP_NAME
#undef SKEP_ACCESSES_SKEP_NAME

}  // namespace skep
