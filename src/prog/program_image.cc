// SPDX-License-Identifier: Apache-2.0
#include "prog/program_image.h"

#include <algorithm>

#include "btf/btf_file.h"
#include "memory/file_space.h"
#include "prog/opcode.h"

namespace skep {
namespace {

using namespace opcode;

template <class T>
Status write_part(int fd, const std::vector<T>& part, uint64_t& offset) {
  const uint64_t size = part.size() * sizeof(T);
  Status status = write_fully(fd, part.data(), size, offset);
  offset += size;
  return status;
}

template <class T>
Status read_part(int fd, std::vector<T>& part, uint32_t count, uint64_t& offset) {
  part.resize(count);
  const uint64_t size = part.size() * sizeof(T);
  Status status = read_fully(fd, part.data(), size, offset);
  offset += size;
  return status;
}

uint64_t size_of_parts(const ProgramFileHeader& header) {
  return uint64_t{header.instructions} * sizeof(bpf_insn) + uint64_t{header.maps} * sizeof(uint32_t) +
         uint64_t{header.functions} * sizeof(ProgramFunction) +
         uint64_t{header.function_infos} * sizeof(bpf_func_info) + uint64_t{header.line_infos} * sizeof(bpf_line_info);
}

Status check_image(const ProgramImage& image) {
  for (const bpf_insn& instruction : image.instructions) {
    if (names_map(instruction) && static_cast<uint32_t>(instruction.imm) >= image.maps.size()) {
      return fail_because(EINVAL, "a program file that names a map it does not have");
    }
  }
  uint32_t next = 0;
  for (const ProgramFunction& function : image.functions) {
    if (function.start < next || function.start >= image.instructions.size() || (next == 0 && function.start != 0)) {
      return fail_because(EINVAL, "a program file whose functions do not follow each other");
    }
    next = function.start + 1;
  }
  return {};
}

}  // namespace

bool is_wide_load(const bpf_insn& instruction) { return instruction.code == (kLd | kImm | kDw); }

bool names_map(const bpf_insn& instruction) {
  return is_wide_load(instruction) &&
         (instruction.src_reg == BPF_PSEUDO_MAP_FD || instruction.src_reg == BPF_PSEUDO_MAP_VALUE ||
          instruction.src_reg == BPF_PSEUDO_MAP_IDX || instruction.src_reg == BPF_PSEUDO_MAP_IDX_VALUE);
}

Status write_program_file(int fd, const ProgramImage& image) {
  ProgramFileHeader header{};
  header.facts = image.facts;
  header.instructions = static_cast<uint32_t>(image.instructions.size());
  header.maps = static_cast<uint32_t>(image.maps.size());
  header.functions = static_cast<uint32_t>(image.functions.size());
  header.function_infos = static_cast<uint32_t>(image.function_infos.size());
  header.line_infos = static_cast<uint32_t>(image.line_infos.size());
  const uint64_t size = round_up(kProgramDataOffset + size_of_parts(header), kPageSize);
  header.file = make_file_header(ObjectKind::kProgram, 0, size);
  // All of it is reserved, so that a count that goes up later can never meet a full file system.
  if (Status status = size_file(fd, kHeaderOffset + size); !status) return status;
  if (Status status = reserve_file(fd, kHeaderOffset, size); !status) return status;
  if (Status status = write_fully(fd, &header, sizeof header, kHeaderOffset); !status) return status;
  uint64_t offset = kHeaderOffset + kProgramDataOffset;
  Status status = write_part(fd, image.instructions, offset);
  if (status) status = write_part(fd, image.maps, offset);
  if (status) status = write_part(fd, image.functions, offset);
  if (status) status = write_part(fd, image.function_infos, offset);
  if (status) status = write_part(fd, image.line_infos, offset);
  return status;
}

Result<ProgramImage> read_program_file(int fd) {
  const auto file = read_file_header(fd, ObjectKind::kProgram);
  if (!file) return std::unexpected(file.error());
  ProgramFileHeader header{};
  if (Status status = read_fully(fd, &header, sizeof header, kHeaderOffset); !status) {
    return std::unexpected(status.error());
  }
  if (header.instructions == 0 || header.instructions > kMaxInstructions || header.maps > kMaxMaps ||
      header.functions == 0 || header.functions > kMaxFunctions ||
      file->private_size < kProgramDataOffset + size_of_parts(header)) {
    return fail_because(EINVAL, "a program file whose sizes do not fit");
  }
  ProgramImage image;
  image.facts = header.facts;
  image.facts.name[BPF_OBJ_NAME_LEN - 1] = '\0';
  uint64_t offset = kHeaderOffset + kProgramDataOffset;
  Status status = read_part(fd, image.instructions, header.instructions, offset);
  if (status) status = read_part(fd, image.maps, header.maps, offset);
  if (status) status = read_part(fd, image.functions, header.functions, offset);
  if (status) status = read_part(fd, image.function_infos, header.function_infos, offset);
  if (status) status = read_part(fd, image.line_infos, header.line_infos, offset);
  if (status) status = check_image(image);
  if (!status) return std::unexpected(status.error());
  return image;
}

Result<Segment> open_program_counters(int fd, Access access) {
  return Segment::map(fd, kHeaderOffset + kProgramCountersOffset, sizeof(ProgramCounters), access);
}

std::vector<bpf_insn> visible_instructions(const ProgramImage& image) {
  std::vector<bpf_insn> out = image.instructions;
  const auto number_of_function = [&](size_t start) {
    const auto at = std::ranges::lower_bound(image.functions, start, {}, &ProgramFunction::start);
    return static_cast<int32_t>(at - image.functions.begin());
  };
  for (size_t i = 0; i < out.size(); ++i) {
    bpf_insn& instruction = out[i];
    if (instruction.code == (kJmp | kCall) && instruction.src_reg == BPF_PSEUDO_CALL) {
      const int32_t distance = instruction.imm;
      instruction.imm = number_of_function(static_cast<size_t>(static_cast<int64_t>(i) + distance + 1));
      instruction.off = static_cast<int16_t>(distance);
    } else if (is_wide_load(instruction) && i + 1 < out.size()) {
      if (names_map(instruction)) {
        const bool value =
            instruction.src_reg == BPF_PSEUDO_MAP_VALUE || instruction.src_reg == BPF_PSEUDO_MAP_IDX_VALUE;
        instruction.src_reg = (value ? BPF_PSEUDO_MAP_VALUE : BPF_PSEUDO_MAP_FD) & 0xf;
        instruction.imm = static_cast<int32_t>(image.maps[static_cast<uint32_t>(instruction.imm)]);
      } else if (instruction.src_reg == BPF_PSEUDO_FUNC) {
        out[i + 1].imm = number_of_function(static_cast<size_t>(static_cast<int64_t>(i) + instruction.imm + 1));
      }
      ++i;
    }
  }
  return out;
}

}  // namespace skep
