// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/hash_base.hpp>

namespace skep {
inline namespace v0 {

/// A hash map in shared memory (BPF_MAP_TYPE_HASH): bounded, crash-safe, shared with BPF programs, bpf(2) clients and
/// other processes. Any thread may call anything. Reading takes no lock, makes no system call and writes nothing.
template <class K, class V>
class HashMap : public detail::HashBase<HashMap<K, V>, BPF_MAP_TYPE_HASH, K, V> {
 private:
  template <uint32_t, class, class>
  friend class detail::MapBase;
  HashMap() = default;
};

/// The same whose memory follows its content (BPF_MAP_TYPE_RHASH): MapOptions::flags must have BPF_F_NO_PREALLOC. A
/// walk over entries() ends early with EAGAIN when the key that comes next is erased between two of its pieces.
template <class K, class V>
class ResizableHashMap : public detail::HashBase<ResizableHashMap<K, V>, BPF_MAP_TYPE_RHASH, K, V> {
 private:
  template <uint32_t, class, class>
  friend class detail::MapBase;
  ResizableHashMap() = default;
};

/// A cache (BPF_MAP_TYPE_LRU_HASH): a full map makes room for a new key by removing one that has not been used lately.
/// Programs' lookups, find(), visit() and updates of an existing key count as uses; get(), get_many() and entries()
/// write nothing and do not. Otherwise as HashMap; no operation ends with E2BIG.
template <class K, class V>
class LruHashMap : public detail::HashBase<LruHashMap<K, V>, BPF_MAP_TYPE_LRU_HASH, K, V> {
 private:
  template <uint32_t, class, class>
  friend class detail::MapBase;
  LruHashMap() = default;
};

}  // namespace v0
}  // namespace skep
