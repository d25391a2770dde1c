// SPDX-License-Identifier: Apache-2.0
#include "maps/map_kinds.h"

namespace skep {
namespace {

constexpr const MapKind* kKinds[] = {
    &kHashKind,
    &kArrayKind,
    &kPerCpuHashKind,
    &kPerCpuArrayKind,
    &kLpmTrieKind,
    &kLruHashKind,
    &kLruPerCpuHashKind,
    &kProgArrayKind,
    &kArrayOfMapsKind,
    &kHashOfMapsKind,
    &kStackTraceKind,
    &kQueueKind,
    &kStackKind,
    &kBloomKind,
    &kDevmapKind,
    &kCpumapKind,
    &kXskmapKind,
    &kSockmapKind,
    &kReuseportSockarrayKind,
    &kCgroupArrayKind,
    &kDevmapHashKind,
    &kSockhashKind,
    &kCgroupStorageKind,
    &kPerCpuCgroupStorageKind,
    &kRingbufKind,
    &kUserRingbufKind,
    &kInstructionArrayKind,
    &kRhashKind,
    &kArenaKind,
    &kPerfEventArrayKind,
    &kTaskStorageKind,
    &kCgroupOwnedStorageKind,
    &kSocketStorageKind,
    &kInodeStorageKind,
};

}  // namespace

const MapKind* find_map_kind(uint32_t type) {
  for (const MapKind* kind : kKinds) {
    if (kind->type == type) return kind;
  }
  return nullptr;
}

}  // namespace skep
