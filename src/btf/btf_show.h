// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "btf/btf.h"

namespace skep {

/// Appends `value`, whose type is `id`, to `text` as Linux 6.18 prints the elements of a pinned map: compact, zeros
/// included, without names of types and members. Its peculiarities are kept: see btf_show.cc. Pointers are printed as
/// they are, where the kernel hides them behind a hash. Bytes that the type names behind the end of `value` count as 0.
void show_value(const Btf& btf, uint32_t id, std::span<const std::byte> value, std::string& text);

}  // namespace skep
