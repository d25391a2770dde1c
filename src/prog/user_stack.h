// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace skep {

/// The return addresses of this thread outside `entry`, a frame address on its stack, innermost first: where whoever
/// runs a program came from. Frames of the shared library that skep is part of are not among the first ones; a skep
/// that is linked into the program statically cannot be told from it. Found by unwind tables, so no frame pointers are
/// needed. Returns how many were stored, at most `room`. Any thread; not from a signal handler.
uint32_t user_stack(const void* entry, uint64_t* addresses, uint32_t room);

/// struct bpf_stack_build_id of Linux.
struct BuildIdFrame {
  static constexpr int32_t kEmpty = 0, kValid = 1, kAddress = 2;
  int32_t status;
  uint8_t build_id[20];
  uint64_t offset;  // in the file, kValid; the address itself, kAddress
};
static_assert(sizeof(BuildIdFrame) == 32);

/// Which file of this process an address is in, and where: kAddress for one in no file with a build id.
BuildIdFrame build_id_of(uint64_t address);

}  // namespace skep
