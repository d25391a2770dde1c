// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace skep {

/// SHA-256 (FIPS 180-4) of `data`; what BPF_OBJ_GET_INFO_BY_FD reports for a frozen ARRAY.
std::array<uint8_t, 32> sha256(std::span<const std::byte> data);

/// SHA-1 (FIPS 180-4) of `data`; its first 8 bytes are a program's tag. Not for anything that must resist collisions.
std::array<uint8_t, 20> sha1(std::span<const std::byte> data);

}  // namespace skep
