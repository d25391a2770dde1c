// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace skep {

/// Number of possible CPUs of the host, as the kernel counts them; at least 1.
uint32_t possible_cpus();

/// Number of CPUs in a list as the kernel prints it, such as "0-3,8-11"; 0 when it is not such a list.
uint32_t count_cpu_list(std::string_view list);

}  // namespace skep
