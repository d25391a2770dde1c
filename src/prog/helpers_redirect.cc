// SPDX-License-Identifier: Apache-2.0
// Where packets go, and whose they are: the helpers over maps of devices, CPUs, sockets and cgroups. Nothing is sent:
// the verdict is all that a test run shows, as in the kernel.
#include <algorithm>
#include <cerrno>

#include "machine/kernel_objects.h"
#include "prog/helpers.h"

namespace skep::helpers {
namespace {

constexpr uint64_t kXdpAborted = 0, kXdpRedirect = 4;
constexpr uint64_t kXdpVerdicts = 3;                      // XDP_ABORTED | XDP_DROP | XDP_PASS | XDP_TX
constexpr uint64_t kBroadcast = 8, kExcludeIngress = 16;  // BPF_F_BROADCAST, BPF_F_EXCLUDE_INGRESS
constexpr uint64_t kIngress = 1;                          // BPF_F_INGRESS
constexpr uint64_t kShot = 2, kTrafficRedirect = 7;       // TC_ACT_SHOT, TC_ACT_REDIRECT

bool entry_exists(uint32_t map_type, uint64_t word) {
  switch (map_type) {
    case BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE_DEVMAP_HASH:
      return device_exists(static_cast<uint32_t>(word));
    case BPF_MAP_TYPE_XSKMAP:
      return socket_exists(word, kXdpSockets);
    default:
      return true;
  }
}

/// The entry of a map of words; 0: there is none.
uint64_t word_of(const MapBinding& binding, uint32_t key) {
  uint64_t word = 0;
  return binding.map->lookup(&key, &word, 0) ? word : 0;
}

/// The id of the cgroup in an entry of a CGROUP_ARRAY.
Result<uint64_t> cgroup_at(Run& run, const MapBinding& binding, uint32_t index) {
  const MapSpec& spec = binding.map->spec();
  if (spec.type != BPF_MAP_TYPE_CGROUP_ARRAY) {
    run.stop(EINVAL, "the map of the helper is not of type CGROUP_ARRAY");
    return 0;
  }
  if (index >= spec.max_entries) return fail(E2BIG);
  const uint64_t id = word_of(binding, index);
  return id != 0 ? Result<uint64_t>(id) : fail(EAGAIN);
}

uint64_t under_cgroup(Run& run, const MapBinding& binding, uint32_t index) {
  const Result<uint64_t> id = cgroup_at(run, binding, index);
  if (!id) return error_value(to_int(id.error()));
  const std::vector<uint64_t> own = cgroups_of(0);
  return std::find(own.begin(), own.end(), *id) != own.end() ? 1 : 0;
}

}  // namespace

uint64_t redirect_map(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  const auto& binding = *memory<const MapBinding>(a);
  const uint32_t type = binding.map->spec().type;
  const bool devices = type == BPF_MAP_TYPE_DEVMAP || type == BPF_MAP_TYPE_DEVMAP_HASH;
  if (!devices && type != BPF_MAP_TYPE_CPUMAP && type != BPF_MAP_TYPE_XSKMAP) {
    run.stop(EINVAL, "bpf_redirect_map(): argument 1 is not a map of devices, CPUs or AF_XDP sockets");
    return 0;
  }
  if ((c & ~(kXdpVerdicts | (devices ? kBroadcast | kExcludeIngress : 0))) != 0) return kXdpAborted;
  if (devices && (c & kBroadcast) != 0) return kXdpRedirect;
  const uint64_t word = word_of(binding, static_cast<uint32_t>(b));
  return word != 0 && entry_exists(type, word) ? kXdpRedirect : c & kXdpVerdicts;
}

uint64_t redirect(Run& run, uint64_t, uint64_t b, uint64_t, uint64_t, uint64_t) {
  if (run.xdp() != nullptr) return b != 0 ? kXdpAborted : kXdpRedirect;
  return (b & ~kIngress) != 0 ? kShot : kTrafficRedirect;
}

uint64_t current_task_under_cgroup(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return under_cgroup(run, *memory<const MapBinding>(a), static_cast<uint32_t>(b));
}

uint64_t skb_under_cgroup(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  // The socket of a test run's packet is made by whoever runs the test, in their cgroup.
  return under_cgroup(run, *memory<const MapBinding>(b), static_cast<uint32_t>(c));
}

}  // namespace skep::helpers
