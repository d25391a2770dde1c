// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/hash_map.h"
#include "maps/scratch.h"
#include "maps/shared_word.h"
#include "maps/value_lock.h"

// Changing a hash map: HashMap's functions that hold one chain.

namespace skep {

/// No CPU in particular: the value is every CPU's.
inline constexpr uint32_t kEveryCpu = UINT32_MAX;

template <uint32_t kKeySize, bool kPerCpu>
inline HashTable::Place HashMap<kKeySize, kPerCpu>::locate(const Hold& hold, uint8_t tag, const void* key) const {
  for (Bucket* bucket = &hold.head(); bucket != nullptr; bucket = table_.next(*bucket)) {
    for (uint32_t hits = bucket->match(tag); hits != 0; hits &= hits - 1) {
      const auto slot = static_cast<uint32_t>(std::countr_zero(hits));
      const uint32_t element = bucket->slots[slot].load(std::memory_order_relaxed);
      if (table_.is_element(element) && stored_key_equals<kKeySize>(table_.elements().key(element), key, key_size_)) {
        return {.bucket = bucket, .slot = slot, .element = element};
      }
    }
  }
  return {};
}

template <uint32_t kKeySize, bool kPerCpu>
inline Status HashMap<kKeySize, kPerCpu>::check_update_flags(uint64_t flags, bool from_program) const {
  if (flags <= BPF_EXIST) [[likely]]
    return {};
  if constexpr (kPerCpu) {
    constexpr uint64_t kCpuFlags = BPF_F_CPU | BPF_F_ALL_CPUS;
    const uint64_t low = flags & 0xffffffff;
    if (from_program || (low & ~kCpuFlags) > BPF_EXIST || (low & kCpuFlags) == kCpuFlags) return fail(EINVAL);
    if ((low & BPF_F_CPU) == 0 && flags >> 32 != 0) return fail(EINVAL);
    if ((low & BPF_F_CPU) != 0 && flags >> 32 >= parts_) return fail(ERANGE);
  } else {
    if ((flags & ~uint64_t{BPF_F_LOCK}) > BPF_EXIST) return fail(EINVAL);
    if (spec().fields.spin_lock == ValueFields::kNone) return fail(EINVAL);
  }
  return {};
}

/// Writes key and value of an element that nobody can reach yet.
template <uint32_t kKeySize, bool kPerCpu>
inline void HashMap<kKeySize, kPerCpu>::fill(uint32_t element, const void* key, const void* value, uint64_t flags,
                                             uint32_t own_cpu) const {
  const HashElements& elements = table_.elements();
  store_key<kKeySize>(elements.key(element), key, key_size_);
  if constexpr (!kPerCpu) {
    table_.gaps().copy_in(elements.value(element), value, value_size_);
  } else if (own_cpu == kEveryCpu && (flags & BPF_F_ALL_CPUS) == 0) {
    for (uint32_t cpu = 0; cpu < parts_; ++cpu) {
      table_.gaps().copy_cleared(elements.part(element, cpu),
                                 static_cast<const std::byte*>(value) + uint64_t{cpu} * value_room_, value_room_);
    }
  } else {
    Scratch padded(value_room_);
    for (uint32_t cpu = 0; cpu < parts_; ++cpu) {
      std::memset(padded.data(), 0, value_room_);
      if (own_cpu == kEveryCpu || own_cpu == cpu) std::memcpy(padded.data(), value, value_size_);
      table_.gaps().copy_cleared(elements.part(element, cpu), padded.data(), value_room_);
    }
  }
  SKEP_CRASH_POINT();
}

/// Writes one CPU's part, which its programs may be using.
template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::overwrite_part(Hold& hold, uint32_t element, uint32_t cpu, const void* value) {
  std::byte* part = table_.elements().part(element, cpu);
  if (value_size_ <= 8 && !table_.gaps().any()) {
    store_word(part, value, value_size_);  // COMMIT
    return {};
  }
  return table_.write_in_place(hold, element, cpu + 1, [&](uint32_t spare) {
    std::byte* staged = table_.elements().part(spare, cpu);
    Scratch old(value_room_);
    copy_from_shared(old.data(), part, value_room_);
    std::memcpy(old.data(), value, value_size_);
    table_.gaps().copy_cleared(staged, old.data(), value_room_);
  });
}

template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::overwrite_locked(Hold& hold, uint32_t element, const void* value) {
  std::atomic<uint32_t>& lock = ValueLock::of(table_.elements().value(element), spec().fields);
  // A dead holder's in-place write held this chain too and is repaired by now.
  if (const auto taken = ValueLock::acquire(machine_, lock); !taken) return std::unexpected(taken.error());
  const Status written = table_.write_in_place(hold, element, 0, [&](uint32_t spare) {
    table_.gaps().copy_in(table_.elements().value(spare), value, value_size_);
  });
  ValueLock::release(lock);
  return written;
}

template <uint32_t kKeySize, bool kPerCpu>
inline Status HashMap<kKeySize, kPerCpu>::overwrite(Hold& hold, const Place& place, const void* key, const void* value,
                                                    uint64_t flags, uint32_t own_cpu) {
  if constexpr (!kPerCpu) {
    if (flags & BPF_F_LOCK) [[unlikely]]
      return overwrite_locked(hold, place.element, value);
    return table_.replace(hold, place, [&](uint32_t spare) { fill(spare, key, value, flags, own_cpu); });
  } else {
    if (own_cpu != kEveryCpu) return overwrite_part(hold, place.element, own_cpu, value);
    const bool same_for_all = (flags & BPF_F_ALL_CPUS) != 0;
    return table_.write_in_place(hold, place.element, 0, [&](uint32_t spare) {
      Scratch part(value_room_);
      for (uint32_t cpu = 0; cpu < parts_; ++cpu) {
        if (same_for_all) {  // padding stays as it is
          copy_from_shared(part.data(), table_.elements().part(place.element, cpu), value_room_);
          std::memcpy(part.data(), value, value_size_);
        } else {
          std::memcpy(part.data(), static_cast<const std::byte*>(value) + uint64_t{cpu} * value_room_, value_room_);
        }
        table_.gaps().copy_cleared(table_.elements().part(spare, cpu), part.data(), value_room_);
      }
    });
  }
}

/// An update; `own_cpu`: whose part of the value is meant, or kEveryCpu.
template <uint32_t kKeySize, bool kPerCpu>
inline Status HashMap<kKeySize, kPerCpu>::put(const Lease& lease, const Probe& at, const void* key, const void* value,
                                              uint64_t flags, uint32_t own_cpu) {
  Hold hold(table_, lease, at.bucket);
  if (hold.error() != 0) return fail(hold.error());
  return put_at(hold, locate(hold, at.tag, key), at.tag, key, value, flags, own_cpu);
}

template <uint32_t kKeySize, bool kPerCpu>
inline Status HashMap<kKeySize, kPerCpu>::put_at(Hold& hold, const Place& place, uint8_t tag, const void* key,
                                                 const void* value, uint64_t flags, uint32_t own_cpu) {
  if (place.element != 0) {
    if (flags & BPF_NOEXIST) return fail(EEXIST);
    if (table_.pool().uses().any()) [[unlikely]]
      table_.pool().uses().renew(place.element);
    return overwrite(hold, place, key, value, flags, own_cpu);
  }
  if (flags & BPF_EXIST) return fail(ENOENT);
  return table_.insert(hold, tag, [&](uint32_t element) { fill(element, key, value, flags, own_cpu); });
}

template <uint32_t kKeySize, bool kPerCpu>
Result<uint64_t> HashMap<kKeySize, kPerCpu>::exchange(const Lease& lease, const void* key, uint64_t word,
                                                      uint64_t flags) {
  if (kPerCpu || value_size_ != sizeof word) return fail(kEnotsupp);
  if (flags > BPF_EXIST) return fail(EINVAL);
  const Probe at = probe(key);
  Hold hold(table_, lease, at.bucket);
  if (hold.error() != 0) return fail(hold.error());
  const Place place = locate(hold, at.tag, key);
  uint64_t replaced = 0;
  if (place.element != 0) copy_value(0, place.element, &replaced);
  const Status stored = put_at(hold, place, at.tag, key, &word, flags, kEveryCpu);
  return stored ? Result<uint64_t>(replaced) : std::unexpected(stored.error());
}

template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::update(const Lease& lease, const void* key, const void* value, uint64_t flags) {
  if (auto status = check_update_flags(flags, false); !status) return status;
  const uint32_t own_cpu = kPerCpu && (flags & BPF_F_CPU) != 0 ? static_cast<uint32_t>(flags >> 32) : kEveryCpu;
  return put(lease, probe(key), key, value, flags, own_cpu);
}

template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::update_from_program(const Lease& lease, const void* key, const void* value,
                                                       uint64_t flags) {
  if (auto status = check_update_flags(flags, true); !status) return status;
  return put(lease, probe(key), key, value, flags, kPerCpu ? lease.cpu() : kEveryCpu);
}

template <uint32_t kKeySize, bool kPerCpu>
BatchResult HashMap<kKeySize, kPerCpu>::update_many(const Lease& lease, const void* keys, const void* values,
                                                    uint32_t count, uint64_t flags) {
  if (auto status = check_update_flags(flags, false); !status) return {.error = to_int(status.error())};
  const uint32_t own_cpu = kPerCpu && (flags & BPF_F_CPU) != 0 ? static_cast<uint32_t>(flags >> 32) : kEveryCpu;
  const uint64_t value_stride = user_value_size();
  const auto* value = static_cast<const std::byte*>(values);
  BatchResult done;
  in_pipeline(keys, count, [&](const Probe& at, const std::byte* key) {
    if (const Status status = put(lease, at, key, value, flags, own_cpu); !status) {
      done.error = to_int(status.error());
      return false;
    }
    value += value_stride;
    ++done.count;
    return true;
  });
  return done;
}

template <uint32_t kKeySize, bool kPerCpu>
BatchResult HashMap<kKeySize, kPerCpu>::erase_many(const Lease& lease, const void* keys, uint32_t count) {
  BatchResult done;
  in_pipeline(keys, count, [&](const Probe& at, const std::byte* key) {
    if (const Status status = erase_at(lease, at, key); !status) {
      done.error = to_int(status.error());
      return false;
    }
    ++done.count;
    return true;
  });
  return done;
}

template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::erase(const Lease& lease, const void* key) {
  return erase_at(lease, probe(key), key);
}

template <uint32_t kKeySize, bool kPerCpu>
inline Status HashMap<kKeySize, kPerCpu>::erase_at(const Lease& lease, const Probe& at, const void* key) {
  Hold hold(table_, lease, at.bucket);
  if (hold.error() != 0) return fail(hold.error());
  const Place place = locate(hold, at.tag, key);
  if (place.element == 0) return fail(ENOENT);
  return table_.erase(hold, place);
}

template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::take(const Lease& lease, const void* key, void* value, uint64_t flags) {
  if (flags != 0 && (kPerCpu || flags != BPF_F_LOCK || spec().fields.spin_lock == ValueFields::kNone)) {
    return fail(EINVAL);
  }
  const Probe at = probe(key);
  Hold hold(table_, lease, at.bucket);
  if (hold.error() != 0) return fail(hold.error());
  const Place place = locate(hold, at.tag, key);
  if (place.element == 0) return fail(ENOENT);
  if (flags & BPF_F_LOCK) {
    std::atomic<uint32_t>& lock = ValueLock::of(table_.elements().value(place.element), spec().fields);
    if (const auto taken = ValueLock::acquire(machine_, lock); !taken) return std::unexpected(taken.error());
    copy_value(0, place.element, value);
    ValueLock::release(lock);
  } else {
    copy_value(0, place.element, value);
  }
  return table_.erase(hold, place);
}

template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::modify(const Lease& lease, const void* key,
                                          const std::function<void(void*)>& change) {
  const Probe at = probe(key);
  Scratch scratch(value_size_);
  Hold hold(table_, lease, at.bucket);
  if (hold.error() != 0) return fail(hold.error());
  const Place place = locate(hold, at.tag, key);
  if (place.element == 0) return fail(ENOENT);
  const uint32_t cpu = kPerCpu ? lease.cpu() : 0;
  copy_from_shared(scratch.data(), table_.elements().part(place.element, cpu), value_size_);
  table_.gaps().clear(scratch.data());
  if (table_.pool().uses().any()) table_.pool().uses().renew(place.element);
  change(scratch.data());
  return overwrite(hold, place, key, scratch.data(), 0, kPerCpu ? cpu : kEveryCpu);
}

template <uint32_t kKeySize, bool kPerCpu>
void HashMap<kKeySize, kPerCpu>::settle(const Lease& lease, void* value) {
  const uint32_t element = table_.elements().element_at(value, parts_, table_.layout().elements);
  if (element != 0) table_.settle(lease, element);
}

template <uint32_t kKeySize, bool kPerCpu>
bool HashMap<kKeySize, kPerCpu>::copy_key(const void* value, void* key) const {
  const uint32_t element = table_.elements().element_at(value, parts_, table_.layout().elements);
  if (element == 0) return false;
  copy_from_shared(key, table_.elements().key(element), key_size_);
  return true;
}

}  // namespace skep
