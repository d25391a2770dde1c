// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "maps/map.h"
#include "memory/result.h"
#include "prog/operations.h"
#include "prog/runtime.h"

namespace skep {

class ArenaMap;             // maps/arena_map.h
class StorageMap;           // maps/storage_map.h
class InstructionArrayMap;  // maps/instruction_array_map.h
class ReferenceArrayMap;    // maps/reference_array_map.h
struct Helper;              // prog/helper.h

/// One decoded instruction. `offset` is the displacement of an access or the distance of a jump (from the jump itself);
/// `imm` the immediate, sign-extended; a Helper's or a map's address; the decoded index of a called function.
struct Instruction {
  Operation operation;
  uint8_t dst;
  uint8_t src;
  int32_t offset;
  int64_t imm;
};
static_assert(sizeof(Instruction) == 16);

/// A map as a program knows it. Its address is the value that a map reference has in a register: a program cannot do
/// anything with it but hand it to a helper, which looks whether it is one of these.
struct alignas(256) MapBinding {
  std::shared_ptr<Map> map;
  uint32_t id;
  ValueMeaning values;                  // other than bytes, programs do not get at the values themselves
  const ReferenceArrayMap* references;  // an array whose values are not bytes; else null
  ArenaMap* arena;                      // an arena; else null
  StorageMap* storage;                  // local storage; else null
  const InstructionArrayMap* table;     // a jump table: programs do not get at its values by helpers; else null
  uint32_t key_size;
  uint32_t value_size;
  bool readable;           // not BPF_F_WRONLY_PROG
  bool writable;           // not BPF_F_RDONLY_PROG, nor a map that this process may only read
  bool has_fields;         // the value holds fields that a program must not touch itself
  uint32_t array_entries;  // ARRAY: lookups are index arithmetic; 0 for other kinds
  uint64_t array_stride;
  std::byte* array_values;
  ValueFields fields;
};

/// A function that is called or whose address is taken: the address of this is its value in a register.
struct FunctionEntry {
  uint32_t index;  // of its first decoded instruction
};

/// What instructions name directly: the value of an array's only element (.data, .bss, .rodata), or a jump table.
struct DirectValue {
  uint64_t address;
  uint64_t length;  // bytes
  const MapBinding* binding;
};

/// What programs see in an array of instructions: their addresses in this process, of which gotox takes no others.
using JumpTable = std::vector<uint64_t>;

/// A program in the form that the interpreter runs. Immutable. Programs, and timers with a callback in it, share it.
struct DecodedCode : std::enable_shared_from_this<DecodedCode> {
  uint32_t type = 0;
  uint32_t expected_attach_type = 0;
  std::vector<Instruction> instructions;
  std::vector<uint32_t> origins;  // the index that each instruction had in the program as loaded
  std::vector<MapBinding> maps;
  std::vector<FunctionEntry> functions;
  std::vector<DirectValue> direct_values;
  ArenaMap* arena = nullptr;           // that its arena pointers are in; null: it has none
  std::vector<JumpTable> jump_tables;  // one for each of maps; empty for other kinds
  /// For each decoded instruction: 0, or 1 + the index where its function begins if a jump table names it. Empty where
  /// there is no table.
  std::vector<uint32_t> landings;

  /// The instruction whose address the number is, if a jump table names it and it is in the function that begins at
  /// `function`; null otherwise, whatever the number.
  [[nodiscard]] const Instruction* landing(uint64_t address, uint32_t function) const {
    const uint64_t distance = address - reinterpret_cast<uint64_t>(instructions.data());
    const uint64_t index = distance / sizeof(Instruction);
    if (distance % sizeof(Instruction) != 0 || index >= landings.size()) return nullptr;
    return landings[index] == function + 1 ? &instructions[index] : nullptr;
  }
};

/// The map as programs know it.
MapBinding bind_map(std::shared_ptr<Map> map);

/// See Program::prepare().
Result<std::unique_ptr<DecodedCode>> decode(const ProgramDescription& description);

}  // namespace skep
