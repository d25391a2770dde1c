// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "memory/result.h"

namespace skep {

// The functions in the BTF of the running kernel (/sys/kernel/btf/vmlinux), which is where clients find the ids that
// they load programs with. Each call reads the file anew: some milliseconds. ENOENT, with a sentence: no such file.

/// Visits every function until `visit(id, name)` says false.
Status for_each_kernel_function(const std::function<bool(uint32_t id, std::string_view name)>& visit);

/// The name of the function that has type id `id`. EINVAL: that is no function.
Result<std::string> kernel_function(uint32_t id);

/// The type id of the function of that name. EINVAL: this kernel has none.
Result<uint32_t> kernel_function_id(std::string_view name);

}  // namespace skep
