// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cerrno>

#include "maps/map.h"

namespace skep {

/// In what the kinds over a ReferenceArrayMap differ.
struct ReferenceArrayTraits {
  /// What BPF_NOEXIST and BPF_EXIST mean.
  enum class Existence : uint8_t {
    kNoFlags,      // nothing: EINVAL
    kAlwaysThere,  // every entry exists: BPF_EXIST is as good as BPF_ANY, BPF_NOEXIST is EEXIST
    kEntry,        // whether the entry is empty, asked when the word is stored
    kEntryOrSame,  // likewise, but storing what is there is no change and always fine
    kEntryFirst,   // whether the entry is empty, asked also before the value is looked at
  };
  uint32_t flags;            // BPF_F_* that BPF_MAP_CREATE accepts
  bool wide_values = false;  // value_size may be 8, not only 4
  Existence existence = Existence::kNoFlags;
  int erase_empty = ENOENT;   // what erasing an empty entry is; 0: it succeeds
  int erase_beyond = E2BIG;   // what erasing an index >= max_entries is
  bool one_per_cpu = false;   // an entry that is no possible CPU's cannot be set (ENODEV)
  bool checked_late = false;  // MapKind::check_late, not check
};

/// Entries that stand for something outside the map: PROG_ARRAY, ARRAY_OF_MAPS and the like.
///
/// What it is: max_entries words, indexed by a u32; a word is 0 (empty) or a number whose meaning the syscall side
/// knows
///   (MapKind::values).
/// Layout
///   private window:  | MapHeader | kControlOffset: u64 word 0 | word 1 | ... | word max_entries - 1 |
/// Operations: lookup, next_key, lookup_batch, exchange, take, for_each (of the entries that are not empty).
///   lookup of an empty entry is ENOENT; next_key counts empty entries too.
/// Invariants
///   R1 All pages exist from creation on: no access can fail.
///   R2 A word changes only by an atomic exchange: what is taken out is told to exactly one caller.
/// Ordering guarantees
///   O1 exchange and take are acquire-release, lookup is acquire: whoever reads a word sees what its writer did before
///      (made the link that keeps the object alive).
/// Progress: wait-free.
/// Reclamation: none here; whoever takes a word out gives up what it stood for.
/// Locks: none. A process may die anywhere: a word is whole or not there.
/// Limits and errno: index >= max_entries: ENOENT on lookup, E2BIG on exchange; the rest as the traits say.
/// Differences from the kernel: none in the structure.
class ReferenceArrayMap final : public Map {
 public:
  ReferenceArrayMap(MapSegments segments, Machine& machine, const ReferenceArrayTraits& traits);

  [[nodiscard]] uint64_t user_value_size() const override { return sizeof(uint64_t); }
  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  BatchResult lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                           BatchSink& sink) const override;
  Result<uint64_t> exchange(const Lease& lease, const void* key, uint64_t word, uint64_t flags) override;
  Status take(const Lease& lease, const void* key, void* value, uint64_t flags) override;
  /// `visit` gets a copy of the word.
  Result<uint64_t> for_each(const Lease& lease, const std::function<Visit(const void*, void*)>& visit) override;
  [[nodiscard]] BatchSupport batch_support() const override;
  [[nodiscard]] CheckReport check() const override;

  [[nodiscard]] Status check_update(uint32_t index, uint64_t flags) const;
  /// Where the word of `index` is, for programs that may read it in place; null: no such entry.
  [[nodiscard]] const void* place(uint32_t index) const { return index < max_entries_ ? &words_[index] : nullptr; }
  /// The word at `index`; 0 where there is none or no such entry.
  [[nodiscard]] uint64_t word(uint32_t index) const {
    // Pairs with exchange() (O1).
    return index < max_entries_ ? words_[index].load(std::memory_order_acquire) : 0;
  }

 private:
  using Existence = ReferenceArrayTraits::Existence;
  [[nodiscard]] static Status check_entry(uint64_t word, uint64_t flags);

  std::atomic<uint64_t>* const words_;
  const uint32_t max_entries_;
  const ReferenceArrayTraits& traits_;
};

Status check_reference_array(const MapSpec& spec, const ReferenceArrayTraits& traits);
Result<MapLayout> lay_out_reference_array(const MapSpec& spec);

/// The row of a kind: `constinit const MapKind kX = ReferenceArrayKind<kXTraits>::row(BPF_MAP_TYPE_X, "x", meaning);`
template <const ReferenceArrayTraits& kTraits>
struct ReferenceArrayKind {
  static Status check(const MapSpec& spec, const MachineShape&) { return check_reference_array(spec, kTraits); }
  static Result<MapLayout> layout(MapSpec& spec, const MachineShape&) { return lay_out_reference_array(spec); }
  /// Zeros are an empty array.
  static Status initialise(const MapSegments&, Machine&) { return {}; }
  static Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
    return std::make_unique<ReferenceArrayMap>(std::move(segments), machine, kTraits);
  }
  static Status check_update(const Map& map, const void* key, uint64_t flags);
  static constexpr MapKind row(uint32_t type, const char* name, ValueMeaning values) {
    return {.type = type,
            .name = name,
            .check = kTraits.checked_late ? nullptr : check,
            .check_late = kTraits.checked_late ? check : nullptr,
            .layout = layout,
            .initialise = initialise,
            .open = open,
            .values = values,
            .check_update = check_update};
  }
};

Status check_reference_array_update(const Map& map, const void* key, uint64_t flags);
template <const ReferenceArrayTraits& kTraits>
Status ReferenceArrayKind<kTraits>::check_update(const Map& map, const void* key, uint64_t flags) {
  return check_reference_array_update(map, key, flags);
}

}  // namespace skep
