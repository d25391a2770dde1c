// SPDX-License-Identifier: Apache-2.0
#include "prog/program_image_check.h"

#include <algorithm>

#include "prog/helper.h"
#include "prog/kfunc.h"
#include "prog/opcode.h"
#include "prog/program_image.h"

namespace skep {
namespace {

using namespace opcode;

bool is_jump_class(uint8_t code) { return (code & 7) == kJmp || (code & 7) == kJmp32; }
bool is_exit(const bpf_insn& insn) { return insn.code == (kJmp | kExit); }
bool is_call(const bpf_insn& insn) { return is_jump_class(insn.code) && (insn.code & 0xf0) == kCall; }
bool is_function_call(const bpf_insn& insn) { return insn.code == (kJmp | kCall) && insn.src_reg == BPF_PSEUDO_CALL; }
bool is_kernel_call(const bpf_insn& insn) {
  return insn.code == (kJmp | kCall) && insn.src_reg == BPF_PSEUDO_KFUNC_CALL;
}
bool is_function_pointer(const bpf_insn& insn) { return is_wide_load(insn) && insn.src_reg == BPF_PSEUDO_FUNC; }
bool is_indirect_jump(const bpf_insn& insn) { return insn.code == (kJmp | kJa | kX); }
bool is_always_jump(const bpf_insn& insn) {
  return insn.code == (kJmp | kJa) || insn.code == (kJmp32 | kJa) || is_indirect_jump(insn);
}

bool writes_destination(const bpf_insn& insn) {
  const uint8_t what = insn.code & 7;
  return what == kAlu || what == kAlu64 || what == kLdx || is_wide_load(insn);
}

int64_t jump_target(const bpf_insn& insn, size_t index) {
  return static_cast<int64_t>(index) + 1 + (insn.code == (kJmp32 | kJa) ? int64_t{insn.imm} : int64_t{insn.off});
}

}  // namespace

Result<std::vector<uint32_t>> find_functions(std::span<const bpf_insn> code, VerifierLog& log) {
  std::vector<uint32_t> starts{0};
  for (size_t i = 0; i < code.size(); ++i) {
    if (!is_function_call(code[i]) && !is_function_pointer(code[i])) continue;
    const int64_t target = static_cast<int64_t>(i) + 1 + code[i].imm;
    if (target < 0 || target >= static_cast<int64_t>(code.size())) {
      log.print("call to invalid destination\n");
      return fail(EINVAL);
    }
    const auto start = static_cast<uint32_t>(target);
    const auto at = std::ranges::lower_bound(starts, start);
    if (at != starts.end() && *at == start) continue;
    if (starts.size() == kMaxFunctions) {
      log.print("too many subprograms\n");
      return fail(E2BIG);
    }
    starts.insert(at, start);
  }
  return starts;
}

Status check_kernel_calls(std::span<const bpf_insn> code, uint32_t type, bool gpl_compatible, bool has_fd_array,
                          VerifierLog& log) {
  const auto refuse = [&log](int error, const char* reason) -> Status {
    log.print("%s\n", reason);
    return fail(error);
  };
  for (const bpf_insn& insn : code) {
    if (!is_kernel_call(insn)) continue;
    const auto kfunc = kfunc_of(static_cast<uint32_t>(insn.imm));
    if (!kfunc && kfunc.error() == Errno{ENOENT}) return refuse(kEnotsupp, last_error_sentence());
    if (!gpl_compatible) return refuse(EINVAL, "cannot call kernel function from non-GPL compatible program");
    if (insn.off < 0) return refuse(EINVAL, "offset < 0 not allowed for kfunc");
    if (insn.off > 0 && !has_fd_array) return refuse(EPROTO, "kfunc offset > 0 without fd_array is invalid");
    if (insn.off > 0) return refuse(EINVAL, "BTF fd for kfunc is not a module BTF");
    if (!kfunc) return refuse(to_int(kfunc.error()), last_error_sentence());
    if (((*kfunc)->types & helper_type_bit(type)) == 0) {
      log.print("calling kernel function bpf_%s is not allowed\n", (*kfunc)->name);
      return fail(EACCES);
    }
  }
  return {};
}

Status check_sleeping_calls(std::span<const bpf_insn> code, std::span<const uint32_t> functions, VerifierLog& log) {
  const auto called = [](const bpf_insn& insn) -> const Helper* {
    return is_kernel_call(insn) ? kfunc_of(static_cast<uint32_t>(insn.imm)).value_or(nullptr) : nullptr;
  };
  const bool has_work = std::ranges::any_of(code, [&](const bpf_insn& insn) {
    const Helper* kfunc = called(insn);
    return kfunc != nullptr && std::ranges::find(kfunc->arguments, Argument::kFunction) != kfunc->arguments.end();
  });
  std::vector<bool> seen(functions.size(), false);
  std::vector<size_t> left{0};
  seen[0] = true;
  while (!left.empty()) {
    const size_t function = left.back();
    left.pop_back();
    const size_t end = function + 1 < functions.size() ? functions[function + 1] : code.size();
    for (size_t i = functions[function]; i < end; ++i) {
      if (const Helper* kfunc = called(code[i]); kfunc != nullptr && kfunc->sleeps) {
        log.print("program must be sleepable to call sleepable kfunc bpf_%s\n", kfunc->name);
        return fail(EACCES);
      }
      if (!is_function_call(code[i]) && (has_work || !is_function_pointer(code[i]))) continue;
      const auto start = static_cast<uint32_t>(static_cast<int64_t>(i) + 1 + code[i].imm);
      const auto target = static_cast<size_t>(std::ranges::lower_bound(functions, start) - functions.begin());
      if (!seen[target]) left.push_back(target);
      seen[target] = true;
    }
  }
  return {};
}

Status check_jumps(std::span<const bpf_insn> code, std::span<const uint32_t> functions, VerifierLog& log) {
  for (size_t f = 0; f < functions.size(); ++f) {
    const size_t begin = functions[f], end = f + 1 < functions.size() ? functions[f + 1] : code.size();
    for (size_t i = begin; i < end; ++i) {
      const bpf_insn& insn = code[i];
      if (!is_jump_class(insn.code) || is_exit(insn) || is_call(insn) || is_indirect_jump(insn)) continue;
      const int64_t target = jump_target(insn, i);
      if (target < static_cast<int64_t>(begin) || target >= static_cast<int64_t>(end)) {
        log.print("jump out of range from insn %zu to %lld\n", i, static_cast<long long>(target));
        return fail(EINVAL);
      }
    }
    if (!is_exit(code[end - 1]) && !is_always_jump(code[end - 1])) {
      log.print("last insn is not an exit or jmp\n");
      return fail(EINVAL);
    }
  }
  return {};
}

Status check_load_form(std::span<const bpf_insn> code, size_t index, VerifierLog& log) {
  const bpf_insn& insn = code[index];
  const uint8_t mode = insn.code & 0xe0;
  if ((insn.code & 7) == kLdx && ((mode != kMem && mode != kMemsx) || insn.imm != 0)) {
    log.print("BPF_LDX uses reserved fields\n");
    return fail(EINVAL);
  }
  if (!is_wide_load(insn)) return {};
  if (index + 1 == code.size() || code[index + 1].code != 0 || code[index + 1].dst_reg != 0 ||
      code[index + 1].src_reg != 0 || code[index + 1].off != 0) {
    log.print("invalid bpf_ld_imm64 insn\n");
    return fail(EINVAL);
  }
  if (insn.off != 0) {
    log.print("BPF_LD_IMM64 uses reserved fields\n");
    return fail(EINVAL);
  }
  return {};
}

Status check_jump_table(std::span<const bpf_insn> code, std::span<const uint32_t> table, VerifierLog& log) {
  for (const uint32_t index : table) {
    if (index < code.size() && (index == 0 || !is_wide_load(code[index - 1]))) continue;
    log.print("an array of instructions names insn %u, where none of the program begins\n", index);
    return fail(EINVAL);
  }
  return {};
}

Status check_control_flow(std::span<const bpf_insn> code, std::span<const uint32_t> functions,
                          std::span<const std::vector<uint32_t>> tables, VerifierLog& log) {
  std::vector<bool> reached(code.size());
  std::vector<uint32_t> pending{0};
  reached[0] = true;
  const auto reach = [&](int64_t target, size_t from) -> Status {
    if (target < 0 || target >= static_cast<int64_t>(code.size())) {
      log.print("jump out of range from insn %zu to %lld\n", from, static_cast<long long>(target));
      return fail(EINVAL);
    }
    if (reached[static_cast<size_t>(target)]) return {};
    reached[static_cast<size_t>(target)] = true;
    pending.push_back(static_cast<uint32_t>(target));
    return {};
  };
  // The tables of a function are those whose first instruction is in it; all others have to be, too.
  const auto reach_by_table = [&](size_t from) -> Status {
    const auto next = std::ranges::upper_bound(functions, static_cast<uint32_t>(from));
    const uint32_t begin = *(next - 1), end = next == functions.end() ? static_cast<uint32_t>(code.size()) : *next;
    bool found = false;
    for (const std::vector<uint32_t>& table : tables) {
      const auto [lowest, highest] = std::ranges::minmax(table);
      if (lowest < begin || lowest >= end) continue;
      if (highest >= end) {
        log.print("jump table for insn %zu points outside of the subprog [%u,%u)\n", from, begin, end);
        return fail(EINVAL);
      }
      found = true;
      for (const uint32_t target : table) {
        if (Status status = reach(target, from); !status) return status;
      }
    }
    if (found) return {};
    log.print("no jump tables found for subprog starting at %u\n", begin);
    return fail(EINVAL);
  };
  while (!pending.empty()) {
    const size_t i = pending.back();
    pending.pop_back();
    const bpf_insn& insn = code[i];
    Status status{};
    if (is_exit(insn)) continue;
    if (is_function_call(insn) || is_function_pointer(insn)) status = reach(static_cast<int64_t>(i) + 1 + insn.imm, i);
    if (is_indirect_jump(insn)) {
      if (insn.src_reg != 0 || insn.off != 0 || insn.imm != 0) {
        log.print("BPF_JA|BPF_X uses reserved fields\n");
        return fail(EINVAL);
      }
      status = reach_by_table(i);
    } else if (status && is_jump_class(insn.code) && !is_call(insn)) {
      status = reach(jump_target(insn, i), i);
    }
    if (status && !is_always_jump(insn)) status = reach(static_cast<int64_t>(i) + (is_wide_load(insn) ? 2 : 1), i);
    if (!status) return status;
  }
  for (size_t i = 0; i < code.size(); ++i) {
    if (!reached[i]) {
      log.print("unreachable insn %zu\n", i);
      return fail(EINVAL);
    }
    if (!is_wide_load(code[i])) continue;
    if (reached[i + 1]) {
      log.print("jump into the middle of ldimm64 insn %zu\n", i);
      return fail(EINVAL);
    }
    ++i;
  }
  return {};
}

Status check_operands(std::span<const bpf_insn> code, VerifierLog& log) {
  for (size_t i = 0; i < code.size(); ++i) {
    const bpf_insn& insn = code[i];
    if (insn.dst_reg == kFramePointer && writes_destination(insn)) {
      log.print("%zu: frame pointer is read only\n", i);
      return fail(EACCES);
    }
    if (insn.code == (kJmp | kCall) && insn.src_reg == 0 && find_helper(static_cast<uint32_t>(insn.imm)) == nullptr) {
      log.print("%zu: invalid func unknown#%d\n", i, insn.imm);
      return fail(EINVAL);
    }
    if (is_wide_load(insn)) ++i;
  }
  return {};
}

Status check_function_infos(std::span<const bpf_func_info> infos, const Btf& btf, std::span<const uint32_t> functions,
                            VerifierLog& log) {
  uint32_t previous = 0;
  for (size_t i = 0; i < infos.size(); ++i) {
    if (i == 0 && infos[i].insn_off != 0) {
      log.print("nonzero insn_off %u for the first func info record", infos[i].insn_off);
      return fail(EINVAL);
    }
    if (i > 0 && infos[i].insn_off <= previous) {
      log.print("same or smaller insn offset (%u) than previous func info record (%u)", infos[i].insn_off, previous);
      return fail(EINVAL);
    }
    if (btf.kind_of(infos[i].type_id) != BtfKind::kFunc) {
      log.print("invalid type id %u in func info", infos[i].type_id);
      return fail(EINVAL);
    }
    previous = infos[i].insn_off;
  }
  if (infos.empty()) return {};
  if (infos.size() != functions.size()) {
    log.print("number of funcs in func_info doesn't match number of subprogs\n");
    return fail(EINVAL);
  }
  for (size_t i = 0; i < infos.size(); ++i) {
    if (infos[i].insn_off != functions[i]) {
      log.print("func_info BTF section doesn't match subprog layout in BPF program\n");
      return fail(EINVAL);
    }
  }
  return {};
}

Status check_line_infos(std::span<const bpf_line_info> infos, const Btf& btf, std::span<const bpf_insn> code,
                        std::span<const uint32_t> functions, VerifierLog& log) {
  if (infos.empty()) return {};
  size_t function = 0;
  uint32_t previous = 0;
  for (size_t i = 0; i < infos.size(); ++i) {
    const bpf_line_info& info = infos[i];
    if ((i > 0 && info.insn_off <= previous) || info.insn_off >= code.size()) {
      log.print("Invalid line_info[%zu].insn_off:%u (prev_offset:%u prog->len:%zu)\n", i, info.insn_off, previous,
                code.size());
      return fail(EINVAL);
    }
    if (code[info.insn_off].code == 0) {
      log.print("Invalid insn code at line_info[%zu].insn_off\n", i);
      return fail(EINVAL);
    }
    if (btf.string_at(info.line_off).data() == nullptr || btf.string_at(info.file_name_off).data() == nullptr) {
      log.print("Invalid line_info[%zu].line_off or .file_name_off\n", i);
      return fail(EINVAL);
    }
    if (function < functions.size()) {
      if (info.insn_off == functions[function]) {
        ++function;
      } else if (functions[function] < info.insn_off) {
        log.print("missing bpf_line_info for func#%zu\n", function);
        return fail(EINVAL);
      }
    }
    previous = info.insn_off;
  }
  if (function != functions.size()) {
    log.print("missing bpf_line_info for %zu funcs starting from func#%zu\n", functions.size() - function, function);
    return fail(EINVAL);
  }
  return {};
}

}  // namespace skep
