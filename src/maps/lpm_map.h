// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/lpm_trie.h"
#include "maps/map.h"

namespace skep {

/// BPF_MAP_TYPE_LPM_TRIE: prefixes and values over an LpmTrie (lpm_trie.h has the drawing, the invariants and the
/// guarantees). kWords: words of a key's data where it has at most 16 bytes, else 0.
///
/// A key is a struct bpf_lpm_trie_key: u32 prefixlen, then data in network order. Bits of the data beyond prefixlen are
/// stored as they come, returned by next_key, and mean nothing. A lookup gives the longest stored prefix that the key
/// begins with and that is not longer than the key's prefixlen.
///
/// Copying reads are in a reader section and write nothing shared. Limits and errno: those of Linux 6.18.
template <uint32_t kWords>
class LpmMap final : public Map {
 public:
  LpmMap(MapSegments segments, Machine& machine, const LpmLayout& layout)
      : Map(std::move(segments), machine), trie_(layout, segments_, machine) {}

  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  BatchResult lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                           BatchSink& sink) const override;
  void* find(const Lease& lease, const void* key) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  Status modify(const Lease& lease, const void* key, const std::function<void(void*)>& change) override;
  [[nodiscard]] BatchSupport batch_support() const override { return {.lookup = true, .update = true, .erase = true}; }
  [[nodiscard]] CheckReport check() const override;

 private:
  [[nodiscard]] uint32_t search(const void* key) const;
  [[nodiscard]] const std::byte* data_of(const void* key) const {
    return static_cast<const std::byte*>(key) + kPrefixDataOffset;
  }
  [[nodiscard]] LpmTrie::Bits bits_of(const void* key) const { return {data_of(key), trie_.layout().data_size}; }

  mutable LpmTrie trie_;  // check() repairs what dead writers left first
};

}  // namespace skep
