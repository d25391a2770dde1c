// SPDX-License-Identifier: Apache-2.0
#include "maps/lpm_map.h"

#include <cstring>
#include <memory>

#include "machine/reader_section.h"
#include "maps/generic_batch.h"
#include "maps/lpm_search.h"
#include "maps/map_kinds.h"
#include "maps/scratch.h"
#include "skep/abi.h"

namespace skep {
namespace {

constexpr uint32_t kFlags =
    BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
constexpr uint32_t kLargestKey = kPrefixDataOffset + kMaxPrefixBits / 8;
constexpr uint32_t kLargestValue = (4U << 20) - 280;  // the kernel's largest allocation less its node and a key

Status check_spec(const MapSpec& spec, const MachineShape&) {
  const auto both = [&spec](uint32_t flags) { return (spec.flags & flags) == flags; };
  if (spec.max_entries == 0 || (spec.flags & BPF_F_NO_PREALLOC) == 0 || (spec.flags & ~kFlags) != 0 ||
      both(BPF_F_RDONLY | BPF_F_WRONLY) || both(BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG) ||
      spec.key_size <= kPrefixDataOffset || spec.key_size > kLargestKey || spec.value_size == 0 ||
      spec.value_size > kLargestValue) {
    return fail(EINVAL);
  }
  return spec.fields.any() ? fail(EOPNOTSUPP) : Status{};
}

Result<MapLayout> layout_of(MapSpec& spec, const MachineShape&) {
  const LpmLayout lpm = LpmLayout::of(spec);
  MapLayout layout;
  layout.private_size = lpm.size;
  layout.reserve[0] = {.offset = 0, .length = lpm.reserved};
  return layout;
}

/// Zeros are a valid empty trie: no root, chunks without memory, an idle journal.
Status initialise(const MapSegments&, Machine&) { return {}; }

Result<std::unique_ptr<Map>> open_trie(MapSegments segments, Machine& machine) {
  const LpmLayout layout = LpmLayout::of(segments.header().spec);
  if (layout.data_size <= 8) return std::make_unique<LpmMap<1>>(std::move(segments), machine, layout);
  if (layout.data_size <= 16) return std::make_unique<LpmMap<2>>(std::move(segments), machine, layout);
  return std::make_unique<LpmMap<0>>(std::move(segments), machine, layout);
}

}  // namespace

const MapKind kLpmTrieKind = {.type = BPF_MAP_TYPE_LPM_TRIE,
                              .name = "lpm_trie",
                              .check_late = check_spec,
                              .layout = layout_of,
                              .initialise = initialise,
                              .open = open_trie};

template <uint32_t kWords>
[[gnu::always_inline]] inline uint32_t LpmMap<kWords>::search(const void* key) const {
  const uint32_t limit = load_prefix_length(key);
  if (limit > trie_.layout().max_bits) [[unlikely]]
    return 0;
  return trie_.search(PrefixBits<kWords>(data_of(key), trie_.layout().data_size), limit);
}

template <uint32_t kWords>
Status LpmMap<kWords>::lookup(const void* key, void* value, uint64_t flags) const {
  if (flags != 0) return fail(EINVAL);
  const ReaderSection section(machine_);
  const RedoLog redo = trie_.redo();
  for (;;) {
    const uint64_t mark = redo.begin_read();
    const uint32_t element = search(key);
    if (element == 0) return fail(ENOENT);
    if ((mark & 1) == 0) [[likely]] {
      copy_from_shared(value, trie_.value(element), spec().value_size);
    } else {  // a value is being replaced in place, perhaps this one
      const ValueRange range = trie_.range(element);
      Scratch copy(range.piece_size);
      redo.copy(range, mark, copy.data(), 0);
      std::memcpy(value, copy.data() + trie_.layout().value_offset, spec().value_size);
    }
    if (redo.validate(mark)) [[likely]]
      return {};
  }
}

template <uint32_t kWords>
Status LpmMap<kWords>::next_key(const void* key, void* next) const {
  const ReaderSection section(machine_);
  const LpmLayout& layout = trie_.layout();
  const RedoLog redo = trie_.redo();
  for (;;) {
    const uint64_t mark = redo.begin_read();
    const uint32_t element = key == nullptr ? trie_.first() : trie_.next(bits_of(key), load_prefix_length(key));
    if (element == 0) return fail(ENOENT);
    ValueRange range = trie_.range(element);
    range.piece_size = layout.value_offset;
    std::byte copy[kLargestKey + 8];
    redo.copy(range, mark, copy, 0);
    if (!redo.validate(mark)) continue;
    std::memcpy(next, copy + layout.length_offset, kPrefixDataOffset);
    std::memcpy(static_cast<std::byte*>(next) + kPrefixDataOffset, copy, layout.data_size);
    return {};
  }
}

template <uint32_t kWords>
BatchResult LpmMap<kWords>::lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                                         BatchSink& sink) const {
  return generic_lookup_batch(*this, in_cursor, out_cursor, capacity, flags, sink);
}

template <uint32_t kWords>
void* LpmMap<kWords>::find(const Lease& lease, const void* key) const {
  const uint32_t element = search(key);
  return element != 0 ? trie_.settled_value(lease, element) : nullptr;
}

template <uint32_t kWords>
Status LpmMap<kWords>::update(const Lease& lease, const void* key, const void* value, uint64_t flags) {
  if (flags > BPF_EXIST || load_prefix_length(key) > trie_.layout().max_bits) return fail(EINVAL);
  const LpmTrie::Hold hold(trie_, lease);
  return hold.error() == 0 ? trie_.put(hold, key, value, flags) : fail(hold.error());
}

template <uint32_t kWords>
Status LpmMap<kWords>::erase(const Lease& lease, const void* key) {
  if (load_prefix_length(key) > trie_.layout().max_bits) return fail(EINVAL);
  const LpmTrie::Hold hold(trie_, lease);
  return hold.error() == 0 ? trie_.erase(hold, key) : fail(hold.error());
}

template <uint32_t kWords>
Status LpmMap<kWords>::modify(const Lease& lease, const void* key, const std::function<void(void*)>& change) {
  if (load_prefix_length(key) > trie_.layout().max_bits) return fail(ENOENT);
  const LpmTrie::Hold hold(trie_, lease);
  if (hold.error() != 0) return fail(hold.error());
  const uint32_t element = trie_.exact(bits_of(key), load_prefix_length(key));
  if (element == 0) return fail(ENOENT);
  Scratch value(spec().value_size);
  copy_from_shared(value.data(), trie_.value(element), spec().value_size);
  change(value.data());
  return trie_.put(hold, key, value.data(), BPF_EXIST);
}

template <uint32_t kWords>
CheckReport LpmMap<kWords>::check() const {
  if (!segments_.control.writable()) return trie_.check();
  const Lease lease(machine_);
  const LpmTrie::Hold hold(trie_, lease);
  if (hold.error() != 0) return {.elements = 0, .free_elements = 0, .problem = "the writers' lock cannot be had"};
  return trie_.check();
}

}  // namespace skep
