// SPDX-License-Identifier: Apache-2.0
#include "maps/map_kinds.h"
#include "maps/reference_array_map.h"
#include "skep/abi.h"

namespace skep {
namespace {

constexpr ReferenceArrayTraits kTraits = {.flags =
                                              BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_PRESERVE_ELEMS};

}  // namespace

/// PERF_EVENT_ARRAY: where bpf_perf_event_output() writes. A word is a perf event's id, and above it the number of the
/// insertion (MapHeader::insertions), whose descriptor the entry goes with.
constinit const MapKind kPerfEventArrayKind =
    ReferenceArrayKind<kTraits>::row(BPF_MAP_TYPE_PERF_EVENT_ARRAY, "perf_event_array", ValueMeaning::kPerfEvent);

}  // namespace skep
