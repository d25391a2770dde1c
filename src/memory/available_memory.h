// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace skep {

/// How many bytes this process can take, by the kernel's estimate: of the host (MemAvailable, free swap) and of every
/// memory cgroup (version 2) around it. UINT64_MAX where nothing can be learnt. Costs a few file reads.
uint64_t available_memory();

/// The number that follows `name` at the beginning of a line of `text`; `missing` when there is none.
uint64_t number_after(std::string_view text, std::string_view name, uint64_t missing);

}  // namespace skep
