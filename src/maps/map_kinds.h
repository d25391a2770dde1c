// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/map.h"

namespace skep {

/// The kinds there are; each stands in its own file, and find_map_kind()'s table lists them.
extern const MapKind kHashKind;
extern const MapKind kInstructionArrayKind;
extern const MapKind kRhashKind;
extern const MapKind kArrayKind;
extern const MapKind kPerCpuHashKind;
extern const MapKind kPerCpuArrayKind;
extern const MapKind kLpmTrieKind;
extern const MapKind kLruHashKind;
extern const MapKind kLruPerCpuHashKind;
extern const MapKind kProgArrayKind;
extern const MapKind kArrayOfMapsKind;
extern const MapKind kHashOfMapsKind;
extern const MapKind kStackTraceKind;
extern const MapKind kQueueKind;
extern const MapKind kStackKind;
extern const MapKind kBloomKind;
extern const MapKind kDevmapKind;
extern const MapKind kCpumapKind;
extern const MapKind kXskmapKind;
extern const MapKind kSockmapKind;
extern const MapKind kReuseportSockarrayKind;
extern const MapKind kCgroupArrayKind;
extern const MapKind kDevmapHashKind;
extern const MapKind kSockhashKind;
extern const MapKind kCgroupStorageKind;
extern const MapKind kPerCpuCgroupStorageKind;
extern const MapKind kRingbufKind;
extern const MapKind kUserRingbufKind;
extern const MapKind kArenaKind;
extern const MapKind kTaskStorageKind;
extern const MapKind kCgroupOwnedStorageKind;
extern const MapKind kSocketStorageKind;
extern const MapKind kInodeStorageKind;
extern const MapKind kPerfEventArrayKind;

}  // namespace skep
