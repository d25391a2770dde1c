// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>

#include <algorithm>
#include <optional>

#include "machine/reader_section.h"
#include "maps/hash_map.h"
#include "maps/scratch.h"
#include "maps/value_lock.h"

// Reading a hash map: HashMap's functions that change nothing.

namespace skep {

/// A reader section where memory comes and goes; nothing where it stays.
class OptionalReaderSection {
 public:
  [[gnu::always_inline]] OptionalReaderSection(Machine& machine, bool needed) {
    if (needed) [[unlikely]]
      section_.emplace(machine);
  }

 private:
  std::optional<ReaderSection> section_;
};

template <uint32_t kKeySize, bool kPerCpu>
HashMap<kKeySize, kPerCpu>::HashMap(MapSegments segments, Machine& machine, const HashLayout& layout)
    : Map(std::move(segments), machine),
      key_size_(spec().key_size),
      value_size_(stored_value_size(spec())),
      value_room_(layout.value_room),
      parts_(layout.parts),
      bucket_mask_(layout.buckets - 1),
      buckets_count_(layout.buckets),
      growing_((spec().flags & BPF_F_NO_PREALLOC) != 0),
      hash_(static_cast<KeyHash::Function>(
                reinterpret_cast<HashControl*>(segments_.control.data() + kControlOffset)->hash_function),
            header().hash_seed),
      table_(layout, segments_, machine),
      buckets_(&table_.bucket(0)) {}

/// The element with that key, 0 when there is none: to be validated.
template <uint32_t kKeySize, bool kPerCpu>
inline uint32_t HashMap<kKeySize, kPerCpu>::search(const Bucket& head, uint8_t tag, const void* key) const {
  uint32_t steps = 0;
  for (const Bucket* bucket = &head; bucket != nullptr; bucket = table_.next(*bucket, steps)) {
    for (uint32_t hits = bucket->match(tag); hits != 0; hits &= hits - 1) {
      // Acquire pairs with the COMMIT stores of HashTable: the element is whole for whoever sees it.
      const uint32_t element = bucket->slots[std::countr_zero(hits)].load(std::memory_order_acquire);
      if (table_.is_element(element) && stored_key_equals<kKeySize>(table_.elements().key(element), key, key_size_)) {
        return element;
      }
    }
  }
  return 0;
}

/// Repeats `use(word)`, which reads the chain, until nothing was unlinked or moved meanwhile; its last result.
template <uint32_t kKeySize, bool kPerCpu>
template <class Use>
inline uint32_t HashMap<kKeySize, kPerCpu>::read_chain(const Bucket& head, const Use& use) const {
  // As in read_chain_again(), for the reader that nobody disturbs.
  const uint64_t before = head.word.load(std::memory_order_acquire);
  const uint32_t result = use(before);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (Bucket::same_version(before, head.word.load(std::memory_order_relaxed))) [[likely]]
    return result;
  return read_chain_again(head, use);
}

template <uint32_t kKeySize, bool kPerCpu>
template <class Use>
uint32_t HashMap<kKeySize, kPerCpu>::read_chain_again(const Bucket& head, Use use) const {
  for (uint32_t attempt = 2;; ++attempt) {
    // Acquire pairs with raise_version() and end(): what was moved before is seen where it is now.
    const uint64_t before = head.word.load(std::memory_order_acquire);
    const uint32_t result = use(before);
    // Pairs with the release fences of HashTable: a byte of a reused element makes the raised version visible.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (Bucket::same_version(before, head.word.load(std::memory_order_relaxed))) [[likely]]
      return result;
    if (attempt % kReadAttempts != 0) continue;
    if (!segments_.control.writable()) {
      sched_yield();
      continue;
    }
    const Lease lease(machine_);
    const Hold hold(table_, lease, static_cast<uint32_t>(&head - buckets_));
    if (hold.error() == 0) return use(0);
  }
}

template <uint32_t kKeySize, bool kPerCpu>
template <class Use>
inline uint32_t HashMap<kKeySize, kPerCpu>::read_element(const Probe& at, const void* key, const Use& use) const {
  const Bucket& head = buckets_[at.bucket];
  // Captured by value, so that only a reader who is disturbed needs them in memory.
  return read_chain(
      head, [ =, this, &head ](uint64_t word) __attribute__((always_inline)) {
        const uint32_t element = search(head, at.tag, key);
        if (element != 0) use(word, element);
        return element;
      });
}

template <uint32_t kKeySize, bool kPerCpu>
inline void HashMap<kKeySize, kPerCpu>::copy_value(uint64_t word, uint32_t element, void* value) const {
  if constexpr (kPerCpu) {
    for (uint32_t cpu = 0; cpu < parts_; ++cpu) {
      copy_from_shared(static_cast<std::byte*>(value) + cpu * uint64_t{value_room_},
                       table_.readable_part(word, element, cpu), value_room_);
    }
    if (table_.gaps().any()) [[unlikely]]
      table_.gaps().clear(value, parts_, value_room_);
  } else {
    const std::byte* const shared = table_.readable_part(word, element, 0);
    if (value_size_ == 8) {
      copy_from_shared(value, shared, 8);
    } else {
      copy_from_shared(value, shared, value_size_);
    }
    if (table_.gaps().any()) [[unlikely]]
      table_.gaps().clear(value);
  }
}

template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::lookup(const void* key, void* value, uint64_t flags) const {
  if (flags != 0) [[unlikely]] {
    if constexpr (kPerCpu) {
      if ((flags & 0xffffffff) != BPF_F_CPU) return fail(EINVAL);
      if (flags >> 32 >= parts_) return fail(ERANGE);
      const OptionalReaderSection section(machine_, growing_);
      const auto cpu = static_cast<uint32_t>(flags >> 32);
      const uint32_t element = read_element(probe(key), key, [&](uint64_t word, uint32_t found) {
        copy_from_shared(value, table_.readable_part(word, found, cpu), value_size_);
        table_.gaps().clear(value);
      });
      return element != 0 ? Status() : Status(fail(ENOENT));
    } else {
      if (flags != BPF_F_LOCK || spec().fields.spin_lock == ValueFields::kNone) return fail(EINVAL);
      return lookup_locked(key, value);
    }
  }
  const OptionalReaderSection section(machine_, growing_);
  const uint32_t element = read_element(
      probe(key), key,
      [ =, this ](uint64_t word, uint32_t found) __attribute__((always_inline)) { copy_value(word, found, value); });
  if (element == 0) return fail(ENOENT);
  return {};
}

/// A copy that no program, which holds the value's lock while it writes, has a part in.
template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::lookup_locked(const void* key, void* value) const {
  const Probe at = probe(key);
  if (segments_.control.writable()) {
    const Lease lease(machine_);
    const Hold hold(table_, lease, at.bucket);
    if (hold.error() != 0) return fail(hold.error());
    const uint32_t element = search(hold.head(), at.tag, key);
    if (element == 0) return fail(ENOENT);
    std::atomic<uint32_t>& lock = ValueLock::of(table_.elements().value(element), spec().fields);
    if (const auto taken = ValueLock::acquire(machine_, lock); !taken) return std::unexpected(taken.error());
    copy_value(0, element, value);
    ValueLock::release(lock);
    return {};
  }
  // A read-only window cannot take the lock: two equal copies with the lock word unchanged are one undisturbed value.
  const OptionalReaderSection section(machine_, growing_);
  Scratch again(value_size_);
  for (;;) {
    const uint32_t element = read_element(at, key, [](uint64_t, uint32_t) {});
    if (element == 0) return fail(ENOENT);
    const std::atomic<uint32_t>& lock = ValueLock::of(table_.elements().value(element), spec().fields);
    const uint32_t word = ValueLock::wait_until_free(machine_, lock);
    const auto copy = [&](void* to) {
      return read_element(at, key, [&](uint64_t seen, uint32_t found) { copy_value(seen, found, to); }) == element;
    };
    const bool same = copy(value) && copy(again.data());
    std::atomic_thread_fence(std::memory_order_acquire);
    if (same && lock.load(std::memory_order_relaxed) == word && std::memcmp(value, again.data(), value_size_) == 0) {
      return {};
    }
  }
}

template <uint32_t kKeySize, bool kPerCpu>
uint32_t HashMap<kKeySize, kPerCpu>::lookup_many(const void* keys, void* values, uint8_t* found, uint32_t count) const {
  const OptionalReaderSection section(machine_, growing_);
  const uint64_t value_stride = user_value_size();
  const auto* key = static_cast<const std::byte*>(keys);
  auto* value = static_cast<std::byte*>(values);
  Probe probes[kPipeline];
  uint32_t hits = 0;
  for (uint32_t begin = 0; begin < count; begin += kPipeline) {
    const uint32_t group = std::min(kPipeline, count - begin);
    for (uint32_t i = 0; i < group; ++i) {
      probes[i] = probe(key + uint64_t{i} * key_size());
      __builtin_prefetch(&buckets_[probes[i].bucket]);
    }
    for (uint32_t i = 0; i < group; ++i) prefetch_element(probes[i]);
    for (uint32_t i = 0; i < group; ++i) {
      const uint32_t element =
          read_element(probes[i], key, [&](uint64_t word, uint32_t hit) { copy_value(word, hit, value); });
      found[begin + i] = element != 0;
      hits += element != 0;
      key += key_size();
      value += value_stride;
    }
  }
  return hits;
}

/// Asks for the memory where the key probably stands; the bucket should be here by now.
template <uint32_t kKeySize, bool kPerCpu>
inline void HashMap<kKeySize, kPerCpu>::prefetch_element(const Probe& at) const {
  const Bucket& head = buckets_[at.bucket];
  const uint32_t match = head.match(at.tag);
  if (match == 0) return;
  const uint32_t element = head.slots[std::countr_zero(match)].load(std::memory_order_relaxed);
  if (!table_.is_element(element)) return;
  __builtin_prefetch(table_.elements().key(element));
  if constexpr (kPerCpu) {
    for (uint32_t cpu = 0; cpu < parts_; ++cpu) __builtin_prefetch(table_.elements().part(element, cpu));
  }
}

/// Calls `act(probe, key)` for one key after the other, until it says false. While it does so for one group of keys,
/// the elements of the next one and the buckets of the one after that are on their way: for many keys.
template <uint32_t kKeySize, bool kPerCpu>
template <class Act>
inline void HashMap<kKeySize, kPerCpu>::in_pipeline(const void* keys, uint32_t count, const Act& act) const {
  const auto* const first = static_cast<const std::byte*>(keys);
  if (buckets_count_ <= kCachedBuckets) {  // nothing to wait for
    const std::byte* key = first;
    for (uint32_t i = 0; i < count && act(probe(key), key); ++i) key += key_size();
    return;
  }
  constexpr uint32_t kStages = 3;
  Probe probes[kStages + 1][kPipeline];  // a power of two
  const uint32_t groups = count / kPipeline + (count % kPipeline != 0);
  const auto size_of = [count](uint32_t group) { return std::min(kPipeline, count - group * kPipeline); };
  for (uint32_t step = 0; step < groups + kStages - 1; ++step) {
    if (step < groups) {
      Probe* const to = probes[step % (kStages + 1)];
      const std::byte* key = first + uint64_t{step} * kPipeline * key_size();
      for (uint32_t i = 0, size = size_of(step); i < size; ++i, key += key_size()) {
        to[i] = probe(key);
        __builtin_prefetch(&buckets_[to[i].bucket]);
      }
    }
    if (step >= 1 && step - 1 < groups) {
      const Probe* const at = probes[(step - 1) % (kStages + 1)];
      for (uint32_t i = 0, size = size_of(step - 1); i < size; ++i) prefetch_element(at[i]);
    }
    if (step >= 2) {
      const Probe* const at = probes[(step - 2) % (kStages + 1)];
      const std::byte* key = first + uint64_t{step - 2} * kPipeline * key_size();
      for (uint32_t i = 0, size = size_of(step - 2); i < size; ++i, key += key_size()) {
        if (!act(at[i], key)) return;
      }
    }
  }
}

/// The element of the chain that comes next after the tag and key given, in the order of tags and then of keys, which
/// does not depend on where in the chain elements stand; 0: none. `tag` -1: the first.
template <uint32_t kKeySize, bool kPerCpu>
uint32_t HashMap<kKeySize, kPerCpu>::successor(const Bucket& head, int tag, const std::byte* key) const {
  const HashElements& elements = table_.elements();
  uint32_t best = 0;
  int best_tag = 0x100;
  // Whether none of the hits was erased or moved meanwhile, which the version tells later than the slot.
  const auto consider = [&](const Bucket& bucket, uint32_t hits) {
    bool all_stayed = true;
    for (; hits != 0; hits &= hits - 1) {
      const auto slot = static_cast<uint32_t>(std::countr_zero(hits));
      const uint32_t element = bucket.slots[slot].load(std::memory_order_acquire);
      all_stayed &= static_cast<int32_t>(element) > 0;
      if (!table_.is_element(element)) continue;
      const int its_tag = bucket.tags[slot].load(std::memory_order_relaxed);
      if (its_tag < tag || its_tag > best_tag) continue;
      const std::byte* its_key = elements.key(element);
      if (its_tag == tag && compare_stored_keys(its_key, key, key_size()) <= 0) continue;
      if (its_tag == best_tag && compare_stored_keys(its_key, elements.key(best), key_size()) >= 0) continue;
      best = element;
      best_tag = its_tag;
    }
    return all_stayed;
  };
  uint32_t steps = 0;
  for (const Bucket* bucket = &head; bucket != nullptr; bucket = table_.next(*bucket, steps)) {
    if (tag >= 0) (void)consider(*bucket, bucket->match(static_cast<uint8_t>(tag)));
    if (best_tag == tag) continue;
    while (!consider(*bucket, bucket->lowest_above(tag))) {  // others are the lowest now
    }
  }
  return best;
}

/// The first key of the first chain from `bucket` on that has any.
template <uint32_t kKeySize, bool kPerCpu>
bool HashMap<kKeySize, kPerCpu>::first_key_from(uint32_t bucket, void* next) const {
  for (; bucket < buckets_count_; ++bucket) {
    const Bucket& head = buckets_[bucket];
    const uint32_t first = read_chain(head, [&](uint64_t) {
      const uint32_t element = successor(head, -1, nullptr);
      if (element != 0) copy_from_shared(next, table_.elements().key(element), key_size());
      return element;
    });
    if (first != 0) return true;
  }
  return false;
}

template <uint32_t kKeySize, bool kPerCpu>
Status HashMap<kKeySize, kPerCpu>::next_key(const void* key, void* next) const {
  const OptionalReaderSection section(machine_, growing_);
  if (key == nullptr) return first_key_from(0, next) ? Status() : Status(fail(ENOENT));
  const Probe at = probe(key);
  const Bucket& head = buckets_[at.bucket];
  Scratch current(round_up(key_size(), 8));
  store_key<kKeySize>(current.data(), key, key_size_);
  bool known = false;
  const uint32_t element = read_chain(head, [&](uint64_t) -> uint32_t {
    known = search(head, at.tag, current.data()) != 0;
    if (!known) return 0;
    const uint32_t further = successor(head, at.tag, current.data());
    if (further != 0) copy_from_shared(next, table_.elements().key(further), key_size());
    return further;
  });
  if (element != 0) return {};
  return first_key_from(known ? at.bucket + 1 : 0, next) ? Status() : Status(fail(ENOENT));
}

template <uint32_t kKeySize, bool kPerCpu>
void* HashMap<kKeySize, kPerCpu>::find(const Lease& lease, const void* key) const {
  const uint32_t element = read_element(probe(key), key, [](uint64_t, uint32_t) {});
  if (element == 0) return nullptr;
  return kPerCpu ? table_.elements().part(element, lease.cpu()) : table_.elements().value(element);
}

template <uint32_t kKeySize, bool kPerCpu>
void* HashMap<kKeySize, kPerCpu>::find_percpu(const Lease&, const void* key, uint32_t cpu) const {
  if (!kPerCpu || cpu >= parts_) return nullptr;
  const uint32_t element = read_element(probe(key), key, [](uint64_t, uint32_t) {});
  return element != 0 ? table_.elements().part(element, cpu) : nullptr;
}

}  // namespace skep
