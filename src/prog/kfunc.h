// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "memory/result.h"
#include "prog/helper.h"

namespace skep {

// Kernel functions that programs call by their type id in the BTF of the running kernel (BPF_PSEUDO_KFUNC_CALL). A row
// is a Helper whose `id` means nothing, so that a call of either is one operation of the interpreter, with the same
// checks of arguments. All of them need a GPL-compatible program.

/// What skep has for the function of that name, without "bpf_"; null: nothing.
const Helper* find_kfunc(std::string_view name);

/// What skep has for the function that has type id `btf_id` in the running kernel, which is asked once per process.
/// EINVAL: the id is that of no function; EACCES: of one that skep does not have, or that is not for programs;
/// ENOTSUPP (524): this host shows no BTF of its kernel, so no program that calls kernel functions can be loaded.
Result<const Helper*> kfunc_of(uint32_t btf_id);

}  // namespace skep
