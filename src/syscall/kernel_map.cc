// SPDX-License-Identifier: Apache-2.0
#include "syscall/kernel_map.h"

#include <cstring>

#include "btf/kernel_btf.h"
#include "syscall/map_access.h"

namespace skep {
namespace {

/// Where the running kernel has the members, asked once in a process.
struct Places {
  uint64_t size = 0;
  static constexpr const char* kNames[] = {"id",         "name",        "map_type",  "key_size",
                                           "value_size", "max_entries", "map_flags", "map_extra"};
  enum Member { kId, kName, kType, kKeySize, kValueSize, kMaxEntries, kFlags, kExtra, kMembers };
  uint32_t offsets[kMembers] = {};  // 0: no such member, which only the first of the struct could have

  static Places read() {
    Places places;
    const auto kernel = KernelBtf::read();
    if (!kernel) return places;
    const uint32_t type = kernel->find(BtfKind::kStruct, "bpf_map");
    places.size = kernel->size_of(type);
    for (int i = 0; i < kMembers; ++i) {
      const auto member = kernel->member(type, kNames[i]);
      if (member) places.offsets[i] = member->offset;
    }
    return places;
  }
};

}  // namespace

std::vector<std::byte> kernel_map(const Map& map) {
  static const Places places = Places::read();
  std::vector<std::byte> bytes(places.size);
  const auto put = [&](Places::Member member, const void* value, size_t size) {
    const size_t at = places.offsets[member];
    if (at != 0 && at + size <= bytes.size()) std::memcpy(bytes.data() + at, value, size);
  };
  const MapSpec& spec = map.spec();
  const uint32_t flags = shown_flags(spec);
  put(Places::kId, &map.header().file.id, sizeof(uint32_t));
  put(Places::kName, map.header().name, sizeof map.header().name);
  put(Places::kType, &spec.type, sizeof(uint32_t));
  put(Places::kKeySize, &spec.key_size, sizeof(uint32_t));
  put(Places::kValueSize, &spec.value_size, sizeof(uint32_t));
  put(Places::kMaxEntries, &spec.max_entries, sizeof(uint32_t));
  put(Places::kFlags, &flags, sizeof(uint32_t));
  put(Places::kExtra, &spec.extra, sizeof(uint64_t));
  return bytes;
}

}  // namespace skep
