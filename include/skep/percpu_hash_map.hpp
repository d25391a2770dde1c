// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/percpu_hash_base.hpp>

namespace skep {
inline namespace v0 {

/// A hash map with one part of each value per CPU (BPF_MAP_TYPE_PERCPU_HASH). Any thread may call anything.
template <class K, class V>
class PerCpuHashMap : public detail::PerCpuHashBase<PerCpuHashMap<K, V>, BPF_MAP_TYPE_PERCPU_HASH, K, V> {
 private:
  template <uint32_t, class, class>
  friend class detail::MapBase;
  PerCpuHashMap() = default;
};

/// A cache with one part of each value per CPU (BPF_MAP_TYPE_LRU_PERCPU_HASH); what counts as a use: see LruHashMap.
template <class K, class V>
class PerCpuLruHashMap : public detail::PerCpuHashBase<PerCpuLruHashMap<K, V>, BPF_MAP_TYPE_LRU_PERCPU_HASH, K, V> {
 private:
  template <uint32_t, class, class>
  friend class detail::MapBase;
  PerCpuLruHashMap() = default;
};

}  // namespace v0
}  // namespace skep
