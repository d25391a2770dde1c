// SPDX-License-Identifier: Apache-2.0
#include "prog/decode.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "maps/arena_map.h"
#include "maps/instruction_array_map.h"
#include "maps/reference_array_map.h"
#include "maps/storage_map.h"
#include "prog/helper.h"
#include "prog/kfunc.h"
#include "prog/opcode.h"

static_assert(std::endian::native == std::endian::little, "byte swaps and context fields assume it");

namespace skep {
namespace {

using namespace opcode;

constexpr uint32_t kSecondHalf = UINT32_MAX;

/// Turns a program into decoded code, one kind of instruction per function. Each returns what is wrong with the
/// instruction, in the kernel verifier's words where it has words for it; null when nothing is.
class Decoder {
 public:
  explicit Decoder(const ProgramDescription& description)
      : description_(description), source_(description.instructions), code_(std::make_unique<DecodedCode>()) {}

  Result<std::unique_ptr<DecodedCode>> run() {
    code_->type = description_.type;
    code_->expected_attach_type = description_.expected_attach_type;
    if (auto bound = bind_maps(); !bound) return std::unexpected(bound.error());
    if (const char* problem = lay_out()) return refuse(problem);
    if (const char* problem = find_functions()) return refuse(problem);
    if (Status filled = fill_jump_tables(); !filled) return std::unexpected(filled.error());
    for (at_ = 0; at_ < source_.size(); ++at_) {
      if (index_of_[at_] == kSecondHalf) continue;
      code_->origins.push_back(at_);
      out_ = {};
      out_.dst = source_[at_].dst_reg;
      out_.src = source_[at_].src_reg;
      if (const char* problem = decode_one(source_[at_])) return refuse(problem);
      code_->instructions.push_back(out_);
    }
    return std::move(code_);
  }

 private:
  std::unexpected<Errno> refuse(const std::string& problem) const {
    return fail_because(EINVAL, "insn " + std::to_string(at_) + ": " + problem);
  }

  // -- maps -----------------------------------------------------------------------------------------------------------
  Status bind_maps() {
    code_->maps.reserve(description_.maps.size());  // addresses of bindings are values in registers
    for (const auto& map : description_.maps) code_->maps.push_back(bind_map(map));
    for (const MapBinding& binding : code_->maps) {
      if (binding.arena != nullptr) code_->arena = binding.arena;
    }
    return {};
  }

  // -- layout and functions -------------------------------------------------------------------------------------------
  const char* lay_out() {
    index_of_.resize(source_.size());
    uint32_t next = 0;
    for (at_ = 0; at_ < source_.size(); ++at_) {
      index_of_[at_] = next++;
      if (source_[at_].code != (kLd | kImm | kDw)) continue;
      if (at_ + 1 == source_.size()) return "invalid bpf_ld_imm64 insn";
      const bpf_insn& second = source_[++at_];
      if (second.code != 0 || second.dst_reg != 0 || second.src_reg != 0 || second.off != 0) {
        return "invalid bpf_ld_imm64 insn";
      }
      index_of_[at_] = kSecondHalf;
    }
    return source_.empty() ? "no instructions" : nullptr;
  }

  /// The index in the source of an instruction `distance` after the one that follows `at_`, if one begins there.
  std::optional<uint32_t> target(int64_t distance) const {
    const int64_t index = int64_t{at_} + 1 + distance;
    if (index < 0 || index >= static_cast<int64_t>(source_.size())) return std::nullopt;
    const auto found = static_cast<uint32_t>(index);
    if (index_of_[found] == kSecondHalf) return std::nullopt;
    return found;
  }

  static bool is_call_of_function(const bpf_insn& insn) {
    return insn.code == (kJmp | kCall) && insn.src_reg == BPF_PSEUDO_CALL;
  }
  static bool is_function_address(const bpf_insn& insn) {
    return insn.code == (kLd | kImm | kDw) && insn.src_reg == BPF_PSEUDO_FUNC;
  }

  const char* find_functions() {
    starts_.push_back(0);
    for (at_ = 0; at_ < source_.size(); ++at_) {
      if (index_of_[at_] == kSecondHalf) continue;
      if (!is_call_of_function(source_[at_]) && !is_function_address(source_[at_])) continue;
      const auto start = target(source_[at_].imm);
      if (!start) return "function out of range";
      starts_.push_back(*start);
    }
    std::ranges::sort(starts_);
    starts_.erase(std::ranges::unique(starts_).begin(), starts_.end());
    for (const uint32_t start : starts_) code_->functions.push_back({index_of_[start]});
    for (size_t i = 0; i < starts_.size(); ++i) {
      const auto end = i + 1 < starts_.size() ? starts_[i + 1] : static_cast<uint32_t>(source_.size());
      at_ = end - 1;
      const uint8_t last = source_[at_].code;
      if (index_of_[at_] == kSecondHalf ||
          (last != (kJmp | kExit) && last != (kJmp | kJa) && last != (kJmp | kJa | kX) && last != (kJmp32 | kJa))) {
        return "last insn is not an exit or jmp";
      }
    }
    return nullptr;
  }

  /// Where the instructions that tables name will be. Addresses of instructions are values in registers from here on.
  Status fill_jump_tables() {
    const bool any = std::ranges::any_of(code_->maps, [](const MapBinding& map) { return map.table != nullptr; });
    if (!any) return {};
    const uint32_t decoded =
        static_cast<uint32_t>(source_.size() - static_cast<size_t>(std::ranges::count(index_of_, kSecondHalf)));
    code_->instructions.reserve(decoded);
    code_->landings.resize(decoded);
    code_->jump_tables.resize(code_->maps.size());
    const auto first = reinterpret_cast<uint64_t>(code_->instructions.data());
    for (size_t m = 0; m < code_->maps.size(); ++m) {
      const InstructionArrayMap* table = code_->maps[m].table;
      for (uint32_t i = 0; table != nullptr && i < table->entries(); ++i) {
        const uint32_t source = table->original(i);
        if (source >= source_.size() || index_of_[source] == kSecondHalf) {
          return fail_because(EINVAL, "an array of instructions names none of the program");
        }
        const uint32_t index = index_of_[source];
        code_->jump_tables[m].push_back(first + uint64_t{index} * sizeof(Instruction));
        code_->landings[index] = index_of_[starts_[function_of(source)]] + 1;
      }
    }
    return {};
  }

  /// Which function the instruction belongs to.
  size_t function_of(uint32_t index) const {
    return static_cast<size_t>(std::ranges::upper_bound(starts_, index) - starts_.begin()) - 1;
  }

  // -- instructions ---------------------------------------------------------------------------------------------------
  const char* decode_one(const bpf_insn& insn) {
    if (insn.dst_reg > kFramePointer || insn.src_reg > kFramePointer) return "register is invalid";
    switch (insn.code & 7) {
      case kLd:
        return decode_ld(insn);
      case kLdx:
        return decode_ldx(insn);
      case kSt:
      case kStx:
        return decode_store(insn);
      case kAlu:
      case kAlu64:
        return decode_arithmetic(insn);
      default:
        return decode_jump(insn);
    }
  }

  static Operation variant(Operation first, unsigned which) {
    return static_cast<Operation>(static_cast<unsigned>(first) + which);
  }
  /// Which of 64X, 64K, 32X, 32K.
  static unsigned width_and_kind(const bpf_insn& insn) {
    const bool wide = (insn.code & 7) == kAlu64 || (insn.code & 7) == kJmp;
    return (wide ? 0U : 2U) + ((insn.code & kX) != 0 ? 0U : 1U);
  }

  const char* decode_arithmetic(const bpf_insn& insn) {
    if (insn.dst_reg == kFramePointer) return "frame pointer is read only";
    const uint8_t operation = insn.code & 0xf0;
    const bool wide = (insn.code & 7) == kAlu64;
    const bool from_register = (insn.code & kX) != 0;
    if (operation == kEnd) return decode_swap(insn, wide);
    if (operation == kNeg) {
      if (from_register || insn.src_reg != 0 || insn.off != 0 || insn.imm != 0) return "BPF_NEG uses reserved fields";
      out_.operation = wide ? Operation::kNeg64 : Operation::kNeg32;
      return nullptr;
    }
    if (operation > kEnd) return "invalid BPF_ALU opcode";
    if (operation == kMov && wide && from_register && insn.off == kAddressSpaceCast) return decode_cast(insn);
    if (from_register ? insn.imm != 0 : insn.src_reg != 0) return "BPF_ALU uses reserved fields";
    out_.imm = insn.imm;
    if (operation == kMov && insn.off != 0) return decode_sign_extension(insn, wide, from_register);
    const bool divides = operation == kDiv || operation == kMod;
    if (insn.off != 0 && !(divides && insn.off == 1)) return "BPF_ALU uses reserved fields";
    if (!from_register) {
      if (divides && insn.imm == 0) return "div by zero";
      const bool shifts = operation == kLsh || operation == kRsh || operation == kArsh;
      if (shifts && (insn.imm < 0 || insn.imm >= (wide ? 64 : 32))) return "invalid shift";
    }
    out_.operation = variant(arithmetic(operation, insn.off == 1), width_and_kind(insn));
    return nullptr;
  }

  static Operation arithmetic(uint8_t operation, bool is_signed) {
    switch (operation) {
      case kAdd:
        return Operation::kAdd64X;
      case kSub:
        return Operation::kSub64X;
      case kMul:
        return Operation::kMul64X;
      case kDiv:
        return is_signed ? Operation::kSdiv64X : Operation::kDiv64X;
      case kOr:
        return Operation::kOr64X;
      case kAnd:
        return Operation::kAnd64X;
      case kLsh:
        return Operation::kLsh64X;
      case kRsh:
        return Operation::kRsh64X;
      case kMod:
        return is_signed ? Operation::kSmod64X : Operation::kMod64X;
      case kXor:
        return Operation::kXor64X;
      case kMov:
        return Operation::kMov64X;
      default:
        return Operation::kArsh64X;
    }
  }

  const char* decode_sign_extension(const bpf_insn& insn, bool wide, bool from_register) {
    if (!from_register) return "BPF_MOV uses reserved fields";
    switch (insn.off) {
      case 8:
        out_.operation = wide ? Operation::kMovsx8 : Operation::kMovsx8To32;
        return nullptr;
      case 16:
        out_.operation = wide ? Operation::kMovsx16 : Operation::kMovsx16To32;
        return nullptr;
      case 32:
        out_.operation = Operation::kMovsx32;
        return wide ? nullptr : "BPF_MOV uses reserved fields";
      default:
        return "BPF_MOV uses reserved fields";
    }
  }

  /// A pointer into the arena is the low half of a user address where the program follows it, and all of it elsewhere.
  const char* decode_cast(const bpf_insn& insn) {
    if (insn.imm != kCastToKernel && insn.imm != kCastToUser) {
      return "addr_space_cast insn can only convert between address space 1 and 0";
    }
    if (code_->arena == nullptr) {
      return "addr_space_cast insn can only be used in a program that has an associated arena";
    }
    const bool keeps_low = insn.imm == kCastToKernel || (code_->arena->spec().flags & BPF_F_NO_USER_CONV) != 0;
    out_.operation = keeps_low ? Operation::kMov32X : Operation::kCastUser;
    out_.imm = static_cast<int64_t>(code_->arena->window().start & ~uint64_t{UINT32_MAX});
    return nullptr;
  }

  const char* decode_swap(const bpf_insn& insn, bool unconditional) {
    const bool to_big = (insn.code & kX) != 0;
    if (insn.src_reg != 0 || insn.off != 0 || (unconditional && to_big)) return "BPF_END uses reserved fields";
    if (insn.imm != 16 && insn.imm != 32 && insn.imm != 64) return "BPF_END uses reserved fields";
    if (unconditional || to_big) {
      out_.operation = insn.imm == 16 ? Operation::kSwap16 : insn.imm == 32 ? Operation::kSwap32 : Operation::kSwap64;
      return nullptr;
    }
    out_.src = out_.dst;
    out_.operation = insn.imm == 16 ? Operation::kTruncate16 : insn.imm == 32 ? Operation::kMov32X : Operation::kMov64X;
    return nullptr;
  }

  static uint32_t bytes_of(uint8_t code) {
    switch (code & 0x18) {
      case kB:
        return 1;
      case kH:
        return 2;
      case kW:
        return 4;
      default:
        return 8;
    }
  }
  static Operation first_access(uint8_t code) {
    switch (code & 0x18) {
      case kB:
        return Operation::kLoadB;
      case kH:
        return Operation::kLoadH;
      case kW:
        return Operation::kLoadW;
      default:
        return Operation::kLoadDw;
    }
  }
  /// Whether an access is at a constant place of the frame, which needs no check when it runs.
  static bool in_frame(uint8_t base, const bpf_insn& insn) {
    return base == kFramePointer && insn.off >= -512 && insn.off + static_cast<int>(bytes_of(insn.code)) <= 0;
  }

  const char* decode_ldx(const bpf_insn& insn) {
    if (insn.imm != 0) return "BPF_LDX uses reserved fields";
    if (insn.dst_reg == kFramePointer) return "frame pointer is read only";
    out_.offset = insn.off;
    switch (insn.code & 0xe0) {
      case kMem:
        out_.operation = variant(first_access(insn.code), in_frame(insn.src_reg, insn) ? 1 : 0);
        return nullptr;
      case kMemsx:
        switch (insn.code & 0x18) {
          case kB:
            out_.operation = Operation::kLoadSignedB;
            return nullptr;
          case kH:
            out_.operation = Operation::kLoadSignedH;
            return nullptr;
          case kW:
            out_.operation = Operation::kLoadSignedW;
            return nullptr;
          default:
            return "BPF_LDX uses reserved fields";
        }
      default:
        return "BPF_LDX uses reserved fields";
    }
  }

  const char* decode_store(const bpf_insn& insn) {
    const bool immediate = (insn.code & 7) == kSt;
    out_.offset = insn.off;
    out_.imm = insn.imm;
    if (!immediate && (insn.code & 0xe0) == kAtomic) return decode_atomic(insn);
    if ((insn.code & 0xe0) != kMem) return "BPF_ST uses reserved fields";
    if (immediate ? insn.src_reg != 0 : insn.imm != 0) return "BPF_ST uses reserved fields";
    const unsigned which = (immediate ? 4U : 2U) + (in_frame(insn.dst_reg, insn) ? 1U : 0U);
    out_.operation = variant(first_access(insn.code), which);
    return nullptr;
  }

  const char* decode_atomic(const bpf_insn& insn) {
    const uint32_t bytes = bytes_of(insn.code);
    out_.operation = Operation::kAtomic;
    out_.imm = insn.imm | int64_t{bytes} << 32;
    switch (insn.imm) {
      case kLoadAcquire:
        return insn.dst_reg == kFramePointer ? "frame pointer is read only" : nullptr;
      case kStoreRelease:
        return nullptr;
      case kAdd:
      case kOr:
      case kAnd:
      case kXor:
        break;
      case kAdd | kFetch:
      case kOr | kFetch:
      case kAnd | kFetch:
      case kXor | kFetch:
      case kXchg:
        if (insn.src_reg == kFramePointer) return "frame pointer is read only";
        break;
      case kCmpxchg:
        break;
      default:
        return "BPF_ATOMIC uses invalid atomic opcode";
    }
    return bytes >= 4 ? nullptr : "invalid atomic operand size";
  }

  const char* decode_ld(const bpf_insn& insn) {
    if (insn.code == (kLd | kImm | kDw)) return decode_wide(insn);
    const uint8_t mode = insn.code & 0xe0;
    if ((mode != kAbs && mode != kInd) || bytes_of(insn.code) == 8) return "unknown opcode";
    const bool packet_type = description_.type == BPF_PROG_TYPE_SOCKET_FILTER ||
                             description_.type == BPF_PROG_TYPE_SCHED_CLS ||
                             description_.type == BPF_PROG_TYPE_SCHED_ACT;
    if (!packet_type) return "BPF_LD_[ABS|IND] instructions not allowed for this program type";
    if (insn.dst_reg != 0 || insn.off != 0 || (mode == kAbs && insn.src_reg != 0)) {
      return "BPF_LD_[ABS|IND] uses reserved fields";
    }
    out_.operation = Operation::kLoadPacket;
    out_.dst = static_cast<uint8_t>(bytes_of(insn.code));
    out_.offset = mode == kInd ? 1 : 0;
    out_.imm = insn.imm;
    return nullptr;
  }

  const char* decode_wide(const bpf_insn& insn) {
    if (insn.dst_reg == kFramePointer) return "frame pointer is read only";
    if (insn.off != 0) return "invalid bpf_ld_imm64 insn";
    const bpf_insn& second = source_[at_ + 1];
    const uint64_t low = static_cast<uint32_t>(insn.imm);
    const uint64_t high = static_cast<uint32_t>(second.imm);
    out_.operation = Operation::kMov64K;
    out_.src = 0;
    switch (insn.src_reg) {
      case 0:
        out_.imm = static_cast<int64_t>(low | high << 32);
        return nullptr;
      case BPF_PSEUDO_MAP_FD:
      case BPF_PSEUDO_MAP_IDX:
        if (low >= code_->maps.size()) return "no such map";
        if (high != 0) return "unrecognized bpf_ld_imm64 insn";
        out_.imm = reinterpret_cast<int64_t>(&code_->maps[low]);
        return nullptr;
      case BPF_PSEUDO_MAP_VALUE:
      case BPF_PSEUDO_MAP_IDX_VALUE:
        return low < code_->maps.size() ? decode_direct_value(code_->maps[low], high) : "no such map";
      case BPF_PSEUDO_FUNC: {
        const auto start = target(insn.imm);
        if (high != 0) return "unrecognized bpf_ld_imm64 insn";
        out_.imm = reinterpret_cast<int64_t>(&code_->functions[function_of(*start)]);
        return nullptr;
      }
      default:
        return "unrecognized bpf_ld_imm64 insn";
    }
  }

  /// The table that programs see of an array of instructions: eight bytes for each.
  const char* decode_jump_table(const MapBinding& map, uint64_t offset) {
    const JumpTable& table = code_->jump_tables[static_cast<size_t>(&map - code_->maps.data())];
    const uint64_t length = table.size() * sizeof(uint64_t);
    if (offset % sizeof(uint64_t) != 0 || offset >= length) return "direct value offset is not allowed";
    return name_directly(map, reinterpret_cast<uint64_t>(table.data()), length, offset);
  }

  const char* decode_direct_value(const MapBinding& map, uint64_t offset) {
    if (map.arena != nullptr) {
      out_.imm = static_cast<int64_t>(map.arena->window().start + offset);
      return nullptr;
    }
    if (map.table != nullptr) return decode_jump_table(map, offset);
    if (map.array_entries != 1) return "direct value access is not supported for this map type";
    if (offset >= map.value_size) return "direct value offset is not allowed";
    return name_directly(map, reinterpret_cast<uint64_t>(map.array_values), map.value_size, offset);
  }

  const char* name_directly(const MapBinding& map, uint64_t base, uint64_t length, uint64_t offset) {
    const auto known = [base](const DirectValue& direct) { return direct.address == base; };
    if (std::ranges::none_of(code_->direct_values, known)) code_->direct_values.push_back({base, length, &map});
    out_.imm = static_cast<int64_t>(base + offset);
    return nullptr;
  }

  const char* decode_jump(const bpf_insn& insn) {
    const uint8_t operation = insn.code & 0xf0;
    const bool narrow = (insn.code & 7) == kJmp32;
    switch (operation) {
      case kCall:
        return narrow ? "unknown opcode" : decode_call(insn);
      case kExit:
        if (insn.code != (kJmp | kExit) || insn.imm != 0 || insn.src_reg != 0 || insn.dst_reg != 0 || insn.off != 0) {
          return "BPF_EXIT uses reserved fields";
        }
        out_.operation = Operation::kExit;
        return nullptr;
      case kJa:
        if (insn.code == (kJmp | kJa | kX)) {
          if (insn.src_reg != 0 || insn.off != 0 || insn.imm != 0) return "BPF_JA|BPF_X uses reserved fields";
          out_.operation = Operation::kGotox;
          return nullptr;
        }
        if ((insn.code & kX) != 0 || insn.src_reg != 0 || insn.dst_reg != 0 || (narrow ? insn.off : insn.imm) != 0) {
          return "BPF_JA uses reserved fields";
        }
        out_.operation = Operation::kJa;
        return jump_to(narrow ? insn.imm : insn.off);
      case kJcond:
        if (insn.code != (kJmp | kJcond) || insn.src_reg != 0 || insn.dst_reg != 0 || insn.imm != 0) {
          return "invalid may_goto";
        }
        out_.operation = Operation::kMayGoto;
        return jump_to(insn.off);
      default:
        break;
    }
    if (operation > kJcond) return "unknown opcode";
    if ((insn.code & kX) != 0 ? insn.imm != 0 : insn.src_reg != 0) return "BPF_JMP uses reserved fields";
    out_.imm = insn.imm;
    out_.operation = variant(condition(operation), width_and_kind(insn));
    return jump_to(insn.off);
  }

  static Operation condition(uint8_t operation) {
    switch (operation) {
      case kJeq:
        return Operation::kJeq64X;
      case kJgt:
        return Operation::kJgt64X;
      case kJge:
        return Operation::kJge64X;
      case kJset:
        return Operation::kJset64X;
      case kJne:
        return Operation::kJne64X;
      case kJsgt:
        return Operation::kJsgt64X;
      case kJsge:
        return Operation::kJsge64X;
      case kJlt:
        return Operation::kJlt64X;
      case kJle:
        return Operation::kJle64X;
      case kJslt:
        return Operation::kJslt64X;
      default:
        return Operation::kJsle64X;
    }
  }

  const char* jump_to(int64_t distance) {
    const auto found = target(distance);
    if (!found || function_of(*found) != function_of(at_)) return "jump out of range";
    out_.offset = static_cast<int32_t>(int64_t{index_of_[*found]} - int64_t{index_of_[at_]});
    return nullptr;
  }

  const char* decode_call(const bpf_insn& insn) {
    if ((insn.code & kX) != 0 || insn.dst_reg != 0 || insn.off != 0) return "BPF_CALL uses reserved fields";
    if (insn.src_reg == BPF_PSEUDO_CALL) {
      out_.operation = Operation::kCallFunction;
      out_.imm = index_of_[*target(insn.imm)];
      return nullptr;
    }
    if (insn.src_reg == BPF_PSEUDO_KFUNC_CALL) return decode_kernel_call(insn);
    if (insn.src_reg != 0) return "BPF_CALL uses reserved fields";
    const Helper* helper = find_helper(static_cast<uint32_t>(insn.imm));
    if (helper == nullptr) return "invalid or unknown helper function";
    if ((helper->types & helper_type_bit(description_.type)) == 0) return "program of this type cannot use helper";
    if (helper->gpl_only && !description_.gpl_compatible) {
      return "cannot call GPL-restricted function from non-GPL compatible program";
    }
    out_.operation = helper->id == kHelperMapLookup  ? Operation::kCallLookup
                     : helper->id == kHelperTailCall ? Operation::kCallTail
                                                     : Operation::kCallHelper;
    out_.imm = reinterpret_cast<int64_t>(helper);
    return nullptr;
  }

  const char* decode_kernel_call(const bpf_insn& insn) {
    const auto kfunc = kfunc_of(static_cast<uint32_t>(insn.imm));
    if (!kfunc) return last_error_sentence();
    if (((*kfunc)->types & helper_type_bit(description_.type)) == 0) return "program of this type cannot use kfunc";
    if (!description_.gpl_compatible) return "cannot call kernel function from non-GPL compatible program";
    out_.operation = Operation::kCallHelper;
    out_.imm = reinterpret_cast<int64_t>(*kfunc);
    return nullptr;
  }

  const ProgramDescription& description_;
  std::span<const bpf_insn> source_;
  std::unique_ptr<DecodedCode> code_;
  std::vector<uint32_t> index_of_;  // decoded index of each source instruction; kSecondHalf: has none
  std::vector<uint32_t> starts_;    // source indices where functions begin, ascending
  uint32_t at_ = 0;
  Instruction out_{};
};

}  // namespace

MapBinding bind_map(std::shared_ptr<Map> map) {
  const MapSpec& spec = map->spec();
  const MapKind* kind = find_map_kind(spec.type);
  MapBinding binding{};
  binding.id = map->header().file.id;
  binding.values = kind != nullptr ? kind->values : ValueMeaning::kBytes;
  binding.references = dynamic_cast<const ReferenceArrayMap*>(map.get());
  binding.arena = dynamic_cast<ArenaMap*>(map.get());
  binding.storage = dynamic_cast<StorageMap*>(map.get());
  binding.key_size = spec.key_size;
  binding.value_size = spec.value_size;
  binding.readable = (spec.flags & BPF_F_WRONLY_PROG) == 0;
  binding.table = dynamic_cast<const InstructionArrayMap*>(map.get());
  if (binding.table != nullptr) binding.values = ValueMeaning::kInstruction;
  binding.writable =
      (spec.flags & BPF_F_RDONLY_PROG) == 0 && binding.table == nullptr && map->segments().control.writable();
  binding.fields = spec.fields;
  binding.has_fields = spec.fields.any();
  if (spec.type == BPF_MAP_TYPE_ARRAY) {
    const Lease lease(map->machine());
    const uint32_t first = 0;
    binding.array_values = static_cast<std::byte*>(map->find(lease, &first));
    binding.array_entries = binding.array_values == nullptr ? 0 : spec.max_entries;
    binding.array_stride = round_up(spec.value_size, 8);
  }
  binding.map = std::move(map);
  return binding;
}

Result<std::unique_ptr<DecodedCode>> decode(const ProgramDescription& description) {
  return Decoder(description).run();
}

}  // namespace skep
