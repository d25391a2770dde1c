// SPDX-License-Identifier: Apache-2.0
#include "maps/map_kinds.h"
#include "maps/reference_array_map.h"
#include "skep/abi.h"

namespace skep {
namespace {

constexpr ReferenceArrayTraits kTraits = {.flags = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY};

}  // namespace

/// PROG_ARRAY: what bpf_tail_call() jumps to. A word is a program's id.
constinit const MapKind kProgArrayKind =
    ReferenceArrayKind<kTraits>::row(BPF_MAP_TYPE_PROG_ARRAY, "prog_array", ValueMeaning::kProgram);

}  // namespace skep
