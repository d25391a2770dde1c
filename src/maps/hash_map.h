// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "maps/hash_table.h"
#include "maps/key_hash.h"
#include "maps/map.h"
#include "maps/stored_key.h"
#include "skep/abi.h"

namespace skep {

/// Bytes of a value as the map stores it: a word where values are not bytes (MapKind::values).
uint32_t stored_value_size(const MapSpec& spec);
/// Gives a map that is made of elements which come and go what its kind's row needs; in hash_kind.cc.
Status check_hash_spec(const MapSpec& spec, bool per_cpu);
Status check_hash_sizes(const MapSpec& spec, bool per_cpu);  // and special fields: what comes after the flags
Result<MapLayout> lay_out_hash(const MapSpec& spec, const MachineShape& shape, bool per_cpu);
Status initialise_hash(const MapSegments& segments, Machine& machine, bool per_cpu);
Status check_hash_function(const MapSegments& segments);

/// BPF_MAP_TYPE_HASH and BPF_MAP_TYPE_PERCPU_HASH: keys and values over a HashTable (hash_table.h has the drawing, the
/// invariants and the guarantees).
///
/// kKeySize: the key's size where it has a version of its own, else 0. kPerCpu: a value has a part for each CPU.
///
/// Copying reads (lookup, lookup_many, next_key, lookup_batch) write nothing; pointer reads (find, for_each) give the
/// element in its place. Replacing the value of a HASH installs another element, so that a pointer found before still
/// shows the old value until the element is used again, as in the kernel; per-CPU values and BPF_F_LOCK are written in
/// place.
/// Limits and errno: those of bpf(2) on Linux 6.18; BPF_F_CPU and BPF_F_ALL_CPUS as in 6.19.
template <uint32_t kKeySize, bool kPerCpu>
class HashMap : public Map {
 public:
  HashMap(MapSegments segments, Machine& machine, const HashLayout& layout);

  [[nodiscard]] uint64_t user_value_size() const override {
    return kPerCpu ? uint64_t{value_room_} * parts_ : value_size_;
  }
  Status lookup(const void* key, void* value, uint64_t flags) const override;
  uint32_t lookup_many(const void* keys, void* values, uint8_t* found, uint32_t count) const override;
  Status next_key(const void* key, void* next) const override;
  BatchResult lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                           BatchSink& sink) const override;
  [[nodiscard]] uint32_t batch_cursor_size() const override { return sizeof(uint32_t); }

  void* find(const Lease& lease, const void* key) const override;
  void* find_percpu(const Lease& lease, const void* key, uint32_t cpu) const override;

  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status update_from_program(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  Result<uint64_t> exchange(const Lease& lease, const void* key, uint64_t word, uint64_t flags) override;
  BatchResult update_many(const Lease& lease, const void* keys, const void* values, uint32_t count,
                          uint64_t flags) override;
  BatchResult erase_many(const Lease& lease, const void* keys, uint32_t count) override;
  Status take(const Lease& lease, const void* key, void* value, uint64_t flags) override;
  BatchResult take_batch(const Lease& lease, const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                         BatchSink& sink) override;
  Result<uint64_t> for_each(const Lease& lease, const std::function<Visit(const void*, void*)>& visit) override;
  Status modify(const Lease& lease, const void* key, const std::function<void(void*)>& change) override;
  void settle(const Lease& lease, void* value) override;
  bool copy_key(const void* value, void* key) const override;
  [[nodiscard]] BatchSupport batch_support() const override {
    return {.lookup = true, .update = true, .erase = true, .take = true};
  }
  [[nodiscard]] CheckReport check() const override;

 protected:
  using Place = HashTable::Place;
  using Hold = HashTable::Hold;

  /// How many times a reader repeats before it takes the bucket, if it may.
  static constexpr uint32_t kReadAttempts = 256;
  static constexpr uint32_t kCachedBuckets = 1024;  // a table that stays in the cache of a core, with its elements
  static constexpr uint32_t kPipeline = 16;         // keys in flight in lookup_many(), in each stage of in_pipeline()

  struct Probe {
    uint32_t bucket;
    uint8_t tag;
  };
  [[nodiscard]] Probe probe(const void* key) const {
    const uint64_t hash = hash_.template of<kKeySize>(key, key_size_);
    return {.bucket = static_cast<uint32_t>(hash) & bucket_mask_, .tag = static_cast<uint8_t>(hash >> 56)};
  }
  [[nodiscard]] uint32_t key_size() const { return kKeySize != 0 ? kKeySize : key_size_; }

  // -- reading: hash_map_read.h --
  // Inlined without asking: a lookup is shorter than the calls that a compiler's estimate would leave in it.
  [[nodiscard, gnu::always_inline]] uint32_t search(const Bucket& head, uint8_t tag, const void* key) const;
  template <class Use>
  [[gnu::always_inline]] uint32_t read_chain(const Bucket& head, const Use& use) const;
  template <class Use>
  [[gnu::noinline]] uint32_t read_chain_again(const Bucket& head, Use use) const;
  template <class Use>
  [[gnu::always_inline]] uint32_t read_element(const Probe& at, const void* key, const Use& use) const;
  [[gnu::always_inline]] void copy_value(uint64_t word, uint32_t element, void* value) const;
  Status lookup_locked(const void* key, void* value) const;
  [[gnu::always_inline]] void prefetch_element(const Probe& at) const;
  template <class Act>
  [[gnu::always_inline]] void in_pipeline(const void* keys, uint32_t count, const Act& act) const;
  [[nodiscard]] uint32_t successor(const Bucket& head, int tag, const std::byte* key) const;
  bool first_key_from(uint32_t bucket, void* next) const;

  // -- writing: hash_map_write.h --
  [[nodiscard, gnu::always_inline]] Place locate(const Hold& hold, uint8_t tag, const void* key) const;
  [[gnu::always_inline]] Status check_update_flags(uint64_t flags, bool from_program) const;
  [[gnu::always_inline]] Status put(const Lease& lease, const Probe& at, const void* key, const void* value,
                                    uint64_t flags, uint32_t own_cpu);
  [[gnu::always_inline]] Status put_at(Hold& hold, const Place& place, uint8_t tag, const void* key, const void* value,
                                       uint64_t flags, uint32_t own_cpu);
  [[gnu::always_inline]] Status erase_at(const Lease& lease, const Probe& at, const void* key);
  [[gnu::always_inline]] Status overwrite(Hold& hold, const Place& place, const void* key, const void* value,
                                          uint64_t flags, uint32_t own_cpu);
  Status overwrite_locked(Hold& hold, uint32_t element, const void* value);
  Status overwrite_part(Hold& hold, uint32_t element, uint32_t cpu, const void* value);
  [[gnu::always_inline]] void fill(uint32_t element, const void* key, const void* value, uint64_t flags,
                                   uint32_t own_cpu) const;

  // -- walking: hash_map_walk.h --
  class Stage;
  struct Run;
  template <class TakeBucket>
  BatchResult walk_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags, BatchSink& sink,
                         const TakeBucket& take_bucket) const;
  void copy_matching(const Bucket& head, uint64_t word, uint8_t tag, uint8_t mask, Stage& stage) const;
  uint32_t erase_matching(Run& run, Hold& hold, uint8_t tag, uint8_t mask, uint32_t count);
  template <class Copy, class Accept>
  void run_bucket(Run& run, const Copy& copy, const Accept& accept) const;
  void prefetch_elements(uint32_t bucket) const;

  const uint32_t key_size_;
  const uint32_t value_size_;
  const uint32_t value_room_;
  const uint32_t parts_;
  const uint32_t bucket_mask_;
  const uint32_t buckets_count_;
  const bool growing_;
  const KeyHash hash_;
  mutable HashTable table_;  // the window's content, which a reader may have to repair or lock when it is starved
  Bucket* const buckets_;
};

/// Makes the version of `Kind`, HashMap or a class derived from it, for the map's key size.
template <template <uint32_t, bool> class Kind, bool kPerCpu>
Result<std::unique_ptr<Map>> open_hash(MapSegments segments, Machine& machine) {
  const MapSpec& spec = segments.header().spec;
  const auto layout = HashLayout::of(spec, machine.shape(), kPerCpu);
  if (!layout) return std::unexpected(layout.error());
  if (auto status = check_hash_function(segments); !status) return std::unexpected(status.error());
  switch (spec.key_size) {
    case 4:
      return std::make_unique<Kind<4, kPerCpu>>(std::move(segments), machine, *layout);
    case 8:
      return std::make_unique<Kind<8, kPerCpu>>(std::move(segments), machine, *layout);
    case 16:
      return std::make_unique<Kind<16, kPerCpu>>(std::move(segments), machine, *layout);
    default:
      return std::make_unique<Kind<0, kPerCpu>>(std::move(segments), machine, *layout);
  }
}

/// The functions of a kind's row.
template <bool kPerCpu>
struct HashKind {
  static Status check(const MapSpec& spec, const MachineShape&) { return check_hash_spec(spec, kPerCpu); }
  static Result<MapLayout> layout(MapSpec& spec, const MachineShape& shape) {
    return lay_out_hash(spec, shape, kPerCpu);
  }
  static Status initialise(const MapSegments& segments, Machine& machine) {
    return initialise_hash(segments, machine, kPerCpu);
  }
  static constexpr MapKind row(uint32_t type, const char* name) {
    return {.type = type,
            .name = name,
            .check = check,
            .layout = layout,
            .initialise = initialise,
            .open = open_hash<HashMap, kPerCpu>};
  }
};

}  // namespace skep
