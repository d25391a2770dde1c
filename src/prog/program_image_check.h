// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <cstdint>
#include <span>
#include <vector>

#include "btf/btf.h"
#include "btf/verifier_log.h"
#include "memory/result.h"

namespace skep {

// What BPF_PROG_LOAD says of a program before anybody asks what the program does: the shape of its functions and jumps
// and whether its BTF tells about those functions. Errors and texts are those of Linux 6.18, one step per function, to
// be called in this order. What a program does is checked where it runs.

/// Where the functions begin, ascending, 0 first: the targets of calls and function pointers. EINVAL: one is outside;
/// E2BIG: more than kMaxFunctions.
Result<std::vector<uint32_t>> find_functions(std::span<const bpf_insn> code, VerifierLog& log);

/// Calls of kernel functions name functions of this kernel that skep has. 524: the host shows no BTF of its kernel;
/// EPROTO: BTF of a module without fd_array; EINVAL: no function, a module's, or the program is not GPL-compatible;
/// EACCES: a function that programs cannot call, or that skep does not have.
Status check_kernel_calls(std::span<const bpf_insn> code, uint32_t type, bool gpl_compatible, bool has_fd_array,
                          VerifierLog& log);

/// No call of a kernel function that sleeps in a program that may not; callbacks of work queues and task work may, so
/// in a program that has such, functions that are not called are not looked at. `code` has passed check_kernel_calls().
/// EACCES.
Status check_sleeping_calls(std::span<const bpf_insn> code, std::span<const uint32_t> functions, VerifierLog& log);

/// Jumps stay inside their function and functions end with an exit or a jump. EINVAL.
Status check_jumps(std::span<const bpf_insn> code, std::span<const uint32_t> functions, VerifierLog& log);

/// What func_info and line_info say about the program. EINVAL.
Status check_function_infos(std::span<const bpf_func_info> infos, const Btf& btf, std::span<const uint32_t> functions,
                            VerifierLog& log);
Status check_line_infos(std::span<const bpf_line_info> infos, const Btf& btf, std::span<const bpf_insn> code,
                        std::span<const uint32_t> functions, VerifierLog& log);

/// Reserved fields of loads, which are looked at together with the maps: one instruction (and the one after it).
Status check_load_form(std::span<const bpf_insn> code, size_t index, VerifierLog& log);

/// An array of instructions names such as are there. EINVAL.
Status check_jump_table(std::span<const bpf_insn> code, std::span<const uint32_t> table, VerifierLog& log);

/// Every instruction can be reached, indirect jumps find a table within their function, and no jump leads into the
/// second half of a wide load. `tables`: the instructions that arrays of them name, checked, none of them empty.
/// EINVAL.
Status check_control_flow(std::span<const bpf_insn> code, std::span<const uint32_t> functions,
                          std::span<const std::vector<uint32_t>> tables, VerifierLog& log);

/// Nobody writes the frame pointer (EACCES) or calls a helper that does not exist (EINVAL).
Status check_operands(std::span<const bpf_insn> code, VerifierLog& log);

}  // namespace skep
