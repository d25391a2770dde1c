// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "memory/file_header.h"
#include "memory/result.h"
#include "memory/segment.h"

namespace skep {

/// The file of a program object: everything that any process needs to describe and to run it.
///
/// Layout (offsets from kHeaderOffset; nothing at offset 0 of the file)
///   0      ProgramFileHeader    constant once published, except for the id
///   4096   ProgramCounters      shared, written while the program runs
///   8192   bpf_insn[instructions] | uint32_t[maps] | ProgramFunction[functions] | bpf_func_info[] | bpf_line_info[]
///                               constant once published; the parts follow each other without gaps
///
/// Operations
///   write_program_file   once, by the loader, before the file has a name
///   read_program_file    copies everything but the counters into private memory, checked
///   open_program_counters
///
/// Invariants
///   1. In an image the imm of every wide load that names a map is an index into `maps`; the maps with those ids are
///      held by the program, so that they exist as long as it does.
///   2. `functions` is ascending, begins with 0 and has at most kMaxFunctions entries.
///   3. The maps of bound[] are held before their id is stored there; the entries in use are the first ones.
///
/// Ordering   The counters are statistics: relaxed. bound[i] is released after its hold exists and acquired by readers.
/// Limits     kMaxInstructions (E2BIG), kMaxFunctions (E2BIG), kMaxMaps (E2BIG), kMaxBound (ENOMEM).
inline constexpr uint32_t kMaxInstructions = 1'000'000;
inline constexpr uint32_t kMaxFunctions = 256;
inline constexpr uint32_t kMaxMaps = 64;
inline constexpr uint32_t kMaxBound = 256;
inline constexpr uint64_t kProgramCountersOffset = 4096;
inline constexpr uint64_t kProgramDataOffset = 8192;

/// One function of a program: the first is where it begins.
struct ProgramFunction {
  uint32_t start;  // instruction
  uint8_t tag[BPF_TAG_SIZE];
};
static_assert(sizeof(ProgramFunction) == 12);

/// What stands in the file's header and in the image alike.
struct ProgramFacts {
  uint32_t type;  // BPF_PROG_TYPE_*
  uint32_t expected_attach_type;
  uint32_t flags;  // BPF_F_* of BPF_PROG_LOAD
  uint32_t created_by_uid;
  uint64_t load_time;  // CLOCK_BOOTTIME, ns
  char name[BPF_OBJ_NAME_LEN];
  uint8_t tag[BPF_TAG_SIZE];
  uint32_t gpl_compatible;  // 0 or 1
  uint32_t btf_id;          // 0: none
  uint32_t verified_instructions;
  uint32_t attach_btf_id;  // in the kernel's BTF; 0: none
};
static_assert(sizeof(ProgramFacts) == 64);

struct ProgramFileHeader {
  FileHeader file;
  ProgramFacts facts;
  uint32_t instructions;
  uint32_t maps;
  uint32_t functions;
  uint32_t function_infos;
  uint32_t line_infos;
  uint32_t reserved;
};
static_assert(sizeof(ProgramFileHeader) == 128);

/// Written by every process that runs or binds, read by everybody; stale is fine.
struct ProgramCounters {
  std::atomic<uint64_t> runs;              // while statistics were enabled
  std::atomic<uint64_t> nanoseconds;       // likewise
  std::atomic<uint32_t> bound[kMaxBound];  // ids of the maps of BPF_PROG_BIND_MAP, 0: unused from here on
};
static_assert(sizeof(ProgramCounters) <= kProgramDataOffset - kProgramCountersOffset);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

struct ProgramImage {
  ProgramFacts facts{};
  std::vector<bpf_insn> instructions;
  std::vector<uint32_t> maps;  // ids
  std::vector<ProgramFunction> functions;
  std::vector<bpf_func_info> function_infos;
  std::vector<bpf_line_info> line_infos;
};

/// Whether the instruction is a wide load that names a map (by descriptor, or by index in an image).
[[nodiscard]] bool names_map(const bpf_insn& instruction);
[[nodiscard]] bool is_wide_load(const bpf_insn& instruction);

/// Fills `fd`, an empty file open for writing. ENOMEM: the file system is full.
Status write_program_file(int fd, const ProgramImage& image);

/// EINVAL (with a sentence) for a file whose parts do not fit together.
Result<ProgramImage> read_program_file(int fd);

/// The shared counters of an open program file; read-only windows serve reading.
Result<Segment> open_program_counters(int fd, Access access);

/// The instructions as clients see them: maps by id, calls to functions with the distance in `off` and the function's
/// number in `imm`, as the kernel shows a program that was compiled.
std::vector<bpf_insn> visible_instructions(const ProgramImage& image);

}  // namespace skep
