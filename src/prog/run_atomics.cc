// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstdint>

#include "prog/opcode.h"
#include "prog/run.h"

namespace skep {
namespace {

using namespace opcode;

/// Fully ordered where the old value is fetched, relaxed where it is not, as the kernel's memory model says; on x86
/// both are the same locked instruction. The partners are other programs and writers on the same value.
template <class T>
void modify(T* word, int32_t operation, uint64_t& source, uint64_t& r0) {
  const T operand = static_cast<T>(source);
  switch (operation) {
    case kAdd:
      __atomic_fetch_add(word, operand, __ATOMIC_RELAXED);
      return;
    case kOr:
      __atomic_fetch_or(word, operand, __ATOMIC_RELAXED);
      return;
    case kAnd:
      __atomic_fetch_and(word, operand, __ATOMIC_RELAXED);
      return;
    case kXor:
      __atomic_fetch_xor(word, operand, __ATOMIC_RELAXED);
      return;
    case kAdd | kFetch:
      source = __atomic_fetch_add(word, operand, __ATOMIC_SEQ_CST);
      return;
    case kOr | kFetch:
      source = __atomic_fetch_or(word, operand, __ATOMIC_SEQ_CST);
      return;
    case kAnd | kFetch:
      source = __atomic_fetch_and(word, operand, __ATOMIC_SEQ_CST);
      return;
    case kXor | kFetch:
      source = __atomic_fetch_xor(word, operand, __ATOMIC_SEQ_CST);
      return;
    case kXchg:
      source = __atomic_exchange_n(word, operand, __ATOMIC_SEQ_CST);
      return;
    default: {
      T expected = static_cast<T>(r0);
      __atomic_compare_exchange_n(word, &expected, operand, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
      r0 = expected;
      return;
    }
  }
}

template <class T>
uint64_t acquire(uint64_t address) {
  return __atomic_load_n(reinterpret_cast<const T*>(address), __ATOMIC_ACQUIRE);
}
template <class T>
void release(uint64_t address, uint64_t value) {
  __atomic_store_n(reinterpret_cast<T*>(address), static_cast<T>(value), __ATOMIC_RELEASE);
}

uint64_t acquire(uint64_t address, uint32_t size) {
  switch (size) {
    case 1:
      return acquire<uint8_t>(address);
    case 2:
      return acquire<uint16_t>(address);
    case 4:
      return acquire<uint32_t>(address);
    default:
      return acquire<uint64_t>(address);
  }
}

void release(uint64_t address, uint32_t size, uint64_t value) {
  switch (size) {
    case 1:
      return release<uint8_t>(address, value);
    case 2:
      return release<uint16_t>(address, value);
    case 4:
      return release<uint32_t>(address, value);
    default:
      return release<uint64_t>(address, value);
  }
}

}  // namespace

bool Run::atomic(const Instruction& instruction, Registers& registers) {
  const auto operation = static_cast<int32_t>(instruction.imm);
  const auto size = static_cast<uint32_t>(static_cast<uint64_t>(instruction.imm) >> 32);
  const bool loads = operation == kLoadAcquire;
  const bool stores = operation == kStoreRelease;
  const uint64_t base = registers[loads ? instruction.src : instruction.dst];
  uint64_t address = base + static_cast<uint64_t>(int64_t{instruction.offset});
  const Region* region = reach(address, size, loads ? Region::kRead : stores ? Region::kWrite : Region::kAtomic);
  const bool on_stack_or_value = region != nullptr && ((region->rights & Region::kAtomic) != 0 || region->binding);
  std::byte* place = nullptr;
  const bool arena = region == nullptr && in_arena(base, address, size, place);
  if (!arena && !on_stack_or_value) {
    stop_access(address, size, "does an atomic operation on memory where it may not");
    return false;
  }
  if (address % size != 0) {
    stop_access(address, size, "does a misaligned atomic operation");
    return false;
  }
  if (arena) {
    if (place == nullptr) {
      if (loads) registers[instruction.dst] = 0;
      return true;
    }
    address = reinterpret_cast<uint64_t>(place);
  }
  if (loads) {
    registers[instruction.dst] = acquire(address, size);
  } else if (stores) {
    release(address, size, registers[instruction.src]);
  } else if (size == 8) {
    modify(reinterpret_cast<uint64_t*>(address), operation, registers[instruction.src], registers[0]);
  } else {
    modify(reinterpret_cast<uint32_t*>(address), operation, registers[instruction.src], registers[0]);
  }
  return true;
}

}  // namespace skep
