// SPDX-License-Identifier: Apache-2.0
// The arrays whose entries are objects of the kernel: rows over ReferenceArrayMap. What the words mean, and which
// values are refused, the syscall side knows (syscall/reference_devices.cc, reference_sockets.cc,
// reference_cgroups.cc).
#include <cstdio>

#include "maps/map_kinds.h"
#include "maps/reference_array_map.h"
#include "skep/abi.h"

namespace skep {
namespace {

using Existence = ReferenceArrayTraits::Existence;

constexpr uint32_t kFlags = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY;

constexpr ReferenceArrayTraits kDevmap = {.flags = kFlags,
                                          .wide_values = true,
                                          .existence = Existence::kAlwaysThere,
                                          .erase_empty = 0,
                                          .erase_beyond = EINVAL};
constexpr ReferenceArrayTraits kCpumap = {.flags = BPF_F_NUMA_NODE,
                                          .wide_values = true,
                                          .existence = Existence::kAlwaysThere,
                                          .erase_empty = 0,
                                          .erase_beyond = EINVAL,
                                          .one_per_cpu = true,
                                          .checked_late = true};
constexpr ReferenceArrayTraits kXskmap = {.flags = kFlags,
                                          .existence = Existence::kEntryOrSame,
                                          .erase_empty = 0,
                                          .erase_beyond = EINVAL,
                                          .checked_late = true};
constexpr ReferenceArrayTraits kSockmap = {.flags = kFlags,
                                           .wide_values = true,
                                           .existence = Existence::kEntry,
                                           .erase_empty = EINVAL,
                                           .erase_beyond = EINVAL,
                                           .checked_late = true};
constexpr ReferenceArrayTraits kReuseport = {
    .flags = kFlags | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG, .wide_values = true, .existence = Existence::kEntryFirst};
constexpr ReferenceArrayTraits kCgroups = {.flags = kFlags};

/// The CPUs that the kernel was built for.
uint32_t most_cpus() {
  static const uint32_t count = [] {
    constexpr uint32_t kUnknown = 8192;
    std::FILE* const file = std::fopen("/sys/devices/system/cpu/kernel_max", "re");
    if (file == nullptr) return kUnknown;
    unsigned last = 0;
    const int read = std::fscanf(file, "%u", &last);
    std::fclose(file);
    return read == 1 ? last + 1 : kUnknown;
  }();
  return count;
}

constexpr MapKind cpumap_row() {
  using CpumapKind = ReferenceArrayKind<kCpumap>;
  MapKind row = CpumapKind::row(BPF_MAP_TYPE_CPUMAP, "cpumap", ValueMeaning::kCpu);
  row.layout = [](MapSpec& spec, const MachineShape& shape) -> Result<MapLayout> {
    if (spec.max_entries > most_cpus()) return fail(E2BIG);
    return CpumapKind::layout(spec, shape);
  };
  return row;
}

/// SOCKMAP looks at the socket before it looks at the index.
constexpr MapKind sockmap_row() {
  MapKind row = ReferenceArrayKind<kSockmap>::row(BPF_MAP_TYPE_SOCKMAP, "sockmap", ValueMeaning::kSocket);
  row.check_update = nullptr;
  return row;
}

}  // namespace

constinit const MapKind kDevmapKind =
    ReferenceArrayKind<kDevmap>::row(BPF_MAP_TYPE_DEVMAP, "devmap", ValueMeaning::kDevice);
constinit const MapKind kCpumapKind = cpumap_row();
constinit const MapKind kXskmapKind =
    ReferenceArrayKind<kXskmap>::row(BPF_MAP_TYPE_XSKMAP, "xskmap", ValueMeaning::kSocket);
constinit const MapKind kSockmapKind = sockmap_row();
constinit const MapKind kReuseportSockarrayKind =
    ReferenceArrayKind<kReuseport>::row(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, "reuseport_sockarray", ValueMeaning::kSocket);
constinit const MapKind kCgroupArrayKind =
    ReferenceArrayKind<kCgroups>::row(BPF_MAP_TYPE_CGROUP_ARRAY, "cgroup_array", ValueMeaning::kCgroup);

}  // namespace skep
