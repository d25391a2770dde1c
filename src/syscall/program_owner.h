// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "syscall/prog_commands.h"

namespace skep {

/// What all programs of one map (PROG_ARRAY, and DEVMAP or CPUMAP with programs) have in common. The first program that
/// enters the map, or that is loaded with the map among its own, decides it for the life of the map.
struct ProgramOwner {
  uint32_t type;  // BPF_PROG_TYPE_*
  uint32_t expected_attach_type;
  bool xdp_has_frags;
  bool sleepable;

  static ProgramOwner of(const ProgramImage& image);
  [[nodiscard]] uint64_t word() const;
};

/// Whether the program may be in the map, or use it for tail calls; if it is the first, it decides from now on. Any
/// thread and process (a compare-and-swap on MapHeader::owner).
bool fits_owner(MapHeader& map, const ProgramImage& image);

/// What was decided; none yet.
std::optional<ProgramOwner> owner_of(const MapHeader& map);

}  // namespace skep
