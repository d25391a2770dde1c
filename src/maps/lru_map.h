// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>

#include <chrono>
#include <optional>

#include "maps/hash_map.h"
#include "maps/hash_map_read.h"
#include "maps/hash_map_walk.h"
#include "maps/hash_map_write.h"
#include "maps/lru_clock.h"

namespace skep {

/// BPF_MAP_TYPE_LRU_HASH and BPF_MAP_TYPE_LRU_PERCPU_HASH: a preallocated hash map that makes room for a new key by
/// removing one that has not been used lately.
///
/// Layout: that of HashMap, with a byte for each element (lru_uses.h) and two hands that go round over them
/// (lru_clock.h).
///
/// Operations: those of HashMap. find() counts as a use, and so does an update of an existing key; copying reads and
/// for_each() do not, as in the kernel.
///
/// Invariants: those of HashTable and ElementPool, and
///   L1 A key leaves only by erase or take, or when a new key came while all elements were in chains or in magazines
///      of writers that evicted them (at most LruClock::kMostVictims for each writer, and a 64th of the map).
///   L2 The key that an update returned for is in the map until as many others have come as the cold part holds; fewer
///      where its writer evicted the element long before, while others went on, or where a writer that has done
///      nothing for whole rounds of a hand goes on with its claim just behind it.
/// Ordering guarantees: those of HashTable; to readers an eviction is an erase.
/// Progress: a writer that finds no free element lets go of its own chain first, then takes the chains of several
///   elements that should go, one at a time and only where nobody holds them: nobody waits while it has a chain. Where
///   nothing can be removed (the last elements are on their way to other writers) it takes what others evicted, repairs
///   what dead processes left and tries again. After a whole round in vain it waits for the chain of one element, for
///   five seconds, which end with ETIMEDOUT if its holder does not move.
/// Reclamation: elements are reused at once, as in a preallocated hash map.
/// Crash safety: an eviction is an erase by the writer's slot, which HashTable repairs; bytes and hands are hints that
///   need no repair.
/// Limits and errno: ENOMEM: no element could be obtained at all. Flags as HashMap; special fields other than those
///   that HashMap refuses: EOPNOTSUPP for locks.
/// Where it differs from the kernel: nothing is evicted for an update of an existing key or one that fails, nor before
///   the map is full; with BPF_F_NO_COMMON_LRU a CPU may use free elements beyond its share.
template <uint32_t kKeySize, bool kPerCpu>
class LruMap final : public HashMap<kKeySize, kPerCpu> {
 public:
  LruMap(MapSegments segments, Machine& machine, const HashLayout& layout)
      : Base(std::move(segments), machine, layout), clock_(layout, this->segments_.control.data()) {}

  void* find(const Lease& lease, const void* key) const override {
    const uint32_t element = used(key);
    if (element == 0) return nullptr;
    return kPerCpu ? this->table_.elements().part(element, lease.cpu()) : this->table_.elements().value(element);
  }
  void* find_percpu(const Lease&, const void* key, uint32_t cpu) const override {
    if (!kPerCpu || cpu >= this->parts_) return nullptr;
    const uint32_t element = used(key);
    return element != 0 ? this->table_.elements().part(element, cpu) : nullptr;
  }
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override {
    const Status status = Base::update(lease, key, value, flags);
    if (status || status.error() != Errno{E2BIG}) [[likely]]
      return status;
    return again(lease, [&] { return Base::update(lease, key, value, flags); });
  }
  Status update_from_program(const Lease& lease, const void* key, const void* value, uint64_t flags) override {
    const Status status = Base::update_from_program(lease, key, value, flags);
    if (status || status.error() != Errno{E2BIG}) [[likely]]
      return status;
    return again(lease, [&] { return Base::update_from_program(lease, key, value, flags); });
  }
  BatchResult update_many(const Lease& lease, const void* keys, const void* values, uint32_t count,
                          uint64_t flags) override {
    const uint64_t key_size = this->key_size(), value_size = this->user_value_size();
    for (uint32_t begin = 0;;) {
      const auto* key = static_cast<const std::byte*>(keys) + begin * key_size;
      const auto* value = static_cast<const std::byte*>(values) + begin * value_size;
      const BatchResult part = Base::update_many(lease, key, value, count - begin, flags);
      begin += part.count;
      if (part.error != E2BIG) return {.count = begin, .error = part.error};
      const Status status = update(lease, key + part.count * key_size, value + part.count * value_size, flags);
      if (!status) return {.count = begin, .error = to_int(status.error())};
      ++begin;
    }
  }

 private:
  using Base = HashMap<kKeySize, kPerCpu>;
  using typename Base::Hold;
  using typename Base::Place;
  using typename Base::Probe;

  [[gnu::always_inline]] uint32_t used(const void* key) const {
    const uint32_t element = this->read_element(this->probe(key), key, [](uint64_t, uint32_t) {});
    const LruUses& uses = this->table_.pool().uses();
    if (element != 0 && uses.any()) uses.touch(element);  // through a read-only window a use cannot be noted
    return element;
  }
  template <class Update>
  [[gnu::noinline]] Status again(const Lease& lease, const Update& update);
  uint32_t make_room(const Lease& lease);
  Status wait_for_room(const Lease& lease);
  [[nodiscard]] Probe probe_stored(uint32_t element) const;

  const LruClock clock_;
};

/// Repeats an update that found no free element, having removed some.
template <uint32_t kKeySize, bool kPerCpu>
template <class Update>
Status LruMap<kKeySize, kPerCpu>::again(const Lease& lease, const Update& update) {
  constexpr int kYieldAfter = 4;   // rounds in vain
  constexpr int kWaitAfter = 128;  // by then the hands have gone round: there is none whose chain is free
  constexpr std::chrono::seconds kLimit(5);
  std::optional<std::chrono::steady_clock::time_point> limit;
  for (int in_vain = 0;;) {
    if (make_room(lease) == 0) {
      if (const auto repaired = this->table_.repair_all({.slot = lease.slot()}); !repaired) {
        return std::unexpected(repaired.error());
      }
      this->table_.pool().share_evicted();
      if (++in_vain > kWaitAfter) {
        if (!limit) limit = std::chrono::steady_clock::now() + kLimit;
        if (auto status = wait_for_room(lease); !status) return status;
        if (std::chrono::steady_clock::now() > *limit) return fail(ENOMEM);
      }
      if (in_vain > kYieldAfter) sched_yield();
    }
    const Status status = update();
    if (status || status.error() != Errno{E2BIG}) return status;
  }
}

/// Removes one element, if there is one, whose chain it waits for: even if its value has been changed meanwhile, as it
/// always will have been where somebody changes nothing else.
template <uint32_t kKeySize, bool kPerCpu>
Status LruMap<kKeySize, kPerCpu>::wait_for_room(const Lease& lease) {
  LruClock::Victim victims[LruClock::kMostVictims];
  if (clock_.choose(lease.cpu(), this->table_.pool().lru_claim({.slot = lease.slot()}), victims) == 0) return {};
  const Probe at = probe_stored(victims[0].element);
  Hold hold(this->table_, lease, at.bucket);
  if (hold.error() != 0) return fail(hold.error());
  const Place place = this->table_.place_of(hold, at.tag, victims[0].element);
  return place.element != 0 ? this->table_.erase(hold, place) : Status();
}

/// Moves elements from their chains to the slot's magazine, which is empty, unless a signal handler filled it; how
/// many.
template <uint32_t kKeySize, bool kPerCpu>
uint32_t LruMap<kKeySize, kPerCpu>::make_room(const Lease& lease) {
  LruClock::Victim victims[LruClock::kMostVictims];
  Probe probes[LruClock::kMostVictims];
  const uint32_t count = clock_.choose(lease.cpu(), this->table_.pool().lru_claim({.slot = lease.slot()}), victims);
  const LruUses& uses = this->table_.pool().uses();
  for (uint32_t i = 0; i < count; ++i) {
    probes[i] = probe_stored(victims[i].element);
    __builtin_prefetch(&this->buckets_[probes[i].bucket], 1);
  }
  HashTable& table = this->table_;
  const Actor actor{.slot = lease.slot()};
  if (!table.pool().begin_put_back(actor)) return 0;
  uint32_t evicted = 0;
  for (uint32_t i = 0; i < count && table.pool().has_room(actor); ++i) {
    Hold hold(table, lease, probes[i].bucket, typename Hold::IfFree{});
    if (hold.error() != 0) continue;
    const auto [element, byte] = victims[i];
    const Place place = table.place_of(hold, probes[i].tag, element);
    if (place.element == 0 || !uses.lives_on(element, byte)) continue;  // this thread was slow: it is another key's
    evicted += table.evict(hold, place).has_value();
  }
  table.pool().end_put_back(actor);
  return evicted;
}

/// Where an element would be under the key that it has, which may be changing: the chain decides.
template <uint32_t kKeySize, bool kPerCpu>
auto LruMap<kKeySize, kPerCpu>::probe_stored(uint32_t element) const -> Probe {
  const std::byte* stored = this->table_.elements().key(element);
  if constexpr (kKeySize != 0) {
    alignas(8) std::byte key[kKeySize];
    copy_from_shared(key, stored, kKeySize);
    return this->probe(key);
  } else {
    Scratch key(this->key_size());
    copy_from_shared(key.data(), stored, this->key_size());
    return this->probe(key.data());
  }
}

/// The functions of a kind's row.
template <bool kPerCpu>
struct LruKind {
  static Status check(const MapSpec& spec, const MachineShape&);
  static Result<MapLayout> layout(MapSpec& spec, const MachineShape& shape);
  static Status initialise(const MapSegments& segments, Machine& machine) {
    return initialise_hash(segments, machine, kPerCpu);
  }
  static constexpr MapKind row(uint32_t type, const char* name) {
    return {.type = type,
            .name = name,
            .check = check,
            .layout = layout,
            .initialise = initialise,
            .open = open_hash<LruMap, kPerCpu>};
  }
};

/// What BPF_MAP_CREATE checks, in the kernel's order.
template <bool kPerCpu>
Status LruKind<kPerCpu>::check(const MapSpec& spec, const MachineShape&) {
  constexpr uint32_t kLruFlags = BPF_F_NO_PREALLOC | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE | BPF_F_RDONLY |
                                 BPF_F_WRONLY | BPF_F_ZERO_SEED | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
  if ((spec.flags & ~kLruFlags) != 0) return fail(EINVAL);
  if ((spec.flags & BPF_F_RDONLY) && (spec.flags & BPF_F_WRONLY)) return fail(EINVAL);
  if ((spec.flags & BPF_F_RDONLY_PROG) && (spec.flags & BPF_F_WRONLY_PROG)) return fail(EINVAL);
  if ((spec.flags & BPF_F_NO_PREALLOC) != 0) return fail(kEnotsupp);
  const bool apart = kPerCpu || (spec.flags & BPF_F_NO_COMMON_LRU) != 0;
  if (apart && (spec.flags & BPF_F_NUMA_NODE) && spec.numa_node != UINT32_MAX) return fail(EINVAL);
  if (auto status = check_hash_sizes(spec, kPerCpu); !status) return status;
  const bool locked = spec.fields.spin_lock != ValueFields::kNone || spec.fields.res_spin_lock != ValueFields::kNone;
  return locked ? Status(fail(EOPNOTSUPP)) : Status();
}

template <bool kPerCpu>
Result<MapLayout> LruKind<kPerCpu>::layout(MapSpec& spec, const MachineShape& shape) {
  if (spec.max_entries > HashLayout::kMaxBuckets) return fail(E2BIG);
  if ((spec.flags & BPF_F_NO_COMMON_LRU) != 0) {
    spec.max_entries = static_cast<uint32_t>(round_up(spec.max_entries, shape.cpus));
  }
  return lay_out_hash(spec, shape, kPerCpu);
}

}  // namespace skep
