// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <memory>

#include "maps/hash_map.h"
#include "maps/hash_map_read.h"

// Walking a hash map: batches, whose cursor counts virtual buckets (the kernel's), and iteration.

namespace skep {

/// Elements on their way to a BatchSink: copied under a bucket's validation or lock, delivered outside of it.
template <uint32_t kKeySize, bool kPerCpu>
class HashMap<kKeySize, kPerCpu>::Stage {
 public:
  static constexpr uint64_t kBytes = 64 * 1024;

  Stage(uint32_t key_size, uint64_t value_size, uint32_t capacity, BatchSink& sink)
      : key_size_(key_size), value_size_(value_size), sink_(sink) {
    const uint64_t fitting = std::max<uint64_t>(Bucket::kSlots, kBytes / (key_size + value_size));
    resize(static_cast<uint32_t>(std::min<uint64_t>(fitting, capacity)));
  }

  /// Room for one more element; more of it where a single bucket has more than fit.
  void add_room() {
    if (count_ == room_) resize(room_ * 2);
  }
  [[nodiscard]] std::byte* key() { return keys_.get() + uint64_t{count_} * key_size_; }
  [[nodiscard]] std::byte* value() { return values_.get() + count_ * value_size_; }
  [[nodiscard]] uint32_t count() const { return count_; }
  void advance() { ++count_; }
  /// Whether key() is one of those after the first `count`.
  [[nodiscard]] bool repeats_after(uint32_t count) const {
    const std::byte* const last = keys_.get() + uint64_t{count_} * key_size_;
    for (const std::byte* key = keys_.get() + uint64_t{count} * key_size_; key != last; key += key_size_) {
      if (std::memcmp(key, last, key_size_) == 0) return true;
    }
    return false;
  }
  /// Forgets what was copied after the first `count` elements.
  void truncate(uint32_t count) { count_ = count; }
  /// Forgets the `number` elements from `begin` on.
  void remove(uint32_t begin, uint32_t number) {
    const uint32_t end = begin + number, after = count_ - end;
    std::memmove(keys_.get() + uint64_t{begin} * key_size_, keys_.get() + uint64_t{end} * key_size_,
                 uint64_t{after} * key_size_);
    std::memmove(values_.get() + begin * value_size_, values_.get() + end * value_size_, after * value_size_);
    count_ -= number;
  }
  [[nodiscard]] bool is_tight() const { return room_ - count_ < Bucket::kSlots; }
  bool deliver() {
    const uint32_t count = count_;
    count_ = 0;
    return count == 0 || sink_.put(keys_.get(), values_.get(), count);
  }

 private:
  void resize(uint32_t room) {
    std::unique_ptr<std::byte[]> keys(new std::byte[uint64_t{room} * key_size_]);
    std::unique_ptr<std::byte[]> values(new std::byte[room * value_size_]);
    if (count_ > 0) {
      std::memcpy(keys.get(), keys_.get(), uint64_t{count_} * key_size_);
      std::memcpy(values.get(), values_.get(), count_ * value_size_);
    }
    keys_ = std::move(keys);
    values_ = std::move(values);
    room_ = room;
  }

  const uint32_t key_size_;
  const uint64_t value_size_;
  BatchSink& sink_;
  std::unique_ptr<std::byte[]> keys_, values_;
  uint32_t room_ = 0;
  uint32_t count_ = 0;
};

/// How far a batch may go in one physical bucket and how far it got.
template <uint32_t kKeySize, bool kPerCpu>
struct HashMap<kKeySize, kPerCpu>::Run {
  Stage& stage;
  uint32_t bucket;  // physical
  uint32_t sub;     // the next virtual bucket in it; all done when it is `subs`
  uint32_t subs;
  uint32_t left;           // elements that still fit
  bool too_large = false;  // virtual bucket `sub` does not fit into `left`
  int error = 0;
};

/// Copies the elements whose tag, masked, is `tag`: to be validated, unless the chain is held. A virtual bucket has the
/// low bits of its tags in common; mask 0 means the whole chain.
template <uint32_t kKeySize, bool kPerCpu>
void HashMap<kKeySize, kPerCpu>::copy_matching(const Bucket& head, uint64_t word, uint8_t tag, uint8_t mask,
                                               Stage& stage) const {
  const uint32_t before = stage.count();
  uint32_t steps = 0;
  for (const Bucket* bucket = &head; bucket != nullptr; bucket = table_.next(*bucket, steps)) {
    for (uint32_t hits = bucket->match(tag, mask); hits != 0; hits &= hits - 1) {
      const auto slot = static_cast<uint32_t>(std::countr_zero(hits));
      const uint32_t element = bucket->slots[slot].load(std::memory_order_acquire);
      if (!table_.is_element(element)) continue;
      // An insert between the two loads, which raises no version, may have put an element of another virtual bucket
      // here.
      if (((bucket->tags[slot].load(std::memory_order_relaxed) ^ tag) & mask) != 0) continue;
      stage.add_room();
      copy_from_shared(stage.key(), table_.elements().key(element), key_size());
      // On its way within the chain an element is in two places, for as long as its mover takes: no version tells.
      if (bucket != &head && stage.repeats_after(before)) continue;
      copy_value(word, element, stage.value());
      stage.advance();
    }
  }
}

/// Erases the `count` elements that copy_matching() found, from the last to the first, so that those which are left
/// stay where they are (an erase moves the end of the chain into the hole). How many it erased: all, or fewer with the
/// error in `run`.
template <uint32_t kKeySize, bool kPerCpu>
uint32_t HashMap<kKeySize, kPerCpu>::erase_matching(Run& run, Hold& hold, uint8_t tag, uint8_t mask, uint32_t count) {
  for (uint32_t erased = 0; erased < count; ++erased) {
    Place last;
    for (Bucket* bucket = &hold.head(); bucket != nullptr; bucket = table_.next(*bucket)) {
      for (uint32_t hits = bucket->match(tag, mask); hits != 0;) {
        const auto slot = static_cast<uint32_t>(std::bit_width(hits)) - 1;
        const uint32_t element = bucket->slots[slot].load(std::memory_order_relaxed);
        if (table_.is_element(element)) {
          last = {.bucket = bucket, .slot = slot, .element = element};
          break;
        }
        hits ^= 1U << slot;
      }
    }
    if (const auto status = table_.erase(hold, last); !status) {
      run.error = to_int(status.error());
      return erased;
    }
  }
  return count;
}

/// Goes through the virtual buckets of a run: `copy(tag, mask, before)` copies elements to the stage, which holds
/// `before`; when they fit, `accept(tag, mask, count)` says how many of them, the last ones, are the batch's: all, or
/// fewer with run.error.
template <uint32_t kKeySize, bool kPerCpu>
template <class Copy, class Accept>
void HashMap<kKeySize, kPerCpu>::run_bucket(Run& run, const Copy& copy, const Accept& accept) const {
  const auto sub_mask = static_cast<uint8_t>(run.subs - 1);
  const auto attempt = [&](uint8_t tag, uint8_t mask) {
    const uint32_t before = run.stage.count();
    copy(tag, mask, before);
    const uint32_t copied = run.stage.count() - before;
    if (copied > run.left) {
      run.stage.truncate(before);
      return false;
    }
    const uint32_t accepted = accept(tag, mask, copied);
    run.left -= accepted;
    if (accepted == copied) return true;
    run.stage.remove(before, copied - accepted);
    return false;
  };
  if (run.sub == 0 && attempt(0, 0)) {  // all of them fit
    run.sub = run.subs;
    return;
  }
  if (run.error != 0) return;
  for (; run.sub < run.subs; ++run.sub) {
    if (!attempt(static_cast<uint8_t>(run.sub), sub_mask)) {
      run.too_large = run.error == 0;
      return;
    }
  }
}

template <uint32_t kKeySize, bool kPerCpu>
void HashMap<kKeySize, kPerCpu>::prefetch_elements(uint32_t bucket) const {
  if (bucket >= buckets_count_) return;
  for (const auto& slot : buckets_[bucket].slots) {
    const uint32_t element = slot.load(std::memory_order_relaxed);
    if (table_.is_element(element)) __builtin_prefetch(table_.elements().key(element));
  }
}

/// The kernel's batch over virtual buckets; `take_bucket(run)` copies, and perhaps removes, those of one physical one.
template <uint32_t kKeySize, bool kPerCpu>
template <class TakeBucket>
BatchResult HashMap<kKeySize, kPerCpu>::walk_batch(const void* in_cursor, void* out_cursor, uint32_t capacity,
                                                   uint64_t flags, BatchSink& sink,
                                                   const TakeBucket& take_bucket) const {
  if ((flags & ~uint64_t{BPF_F_LOCK}) != 0) return {.error = EINVAL};
  if (flags != 0 && spec().fields.spin_lock == ValueFields::kNone) return {.error = EINVAL};
  if (capacity == 0) return {};
  uint32_t cursor = 0;
  if (in_cursor != nullptr) std::memcpy(&cursor, in_cursor, sizeof(cursor));
  const HashLayout& layout = table_.layout();
  if (cursor >= layout.virtual_buckets) return {.error = ENOENT};

  constexpr uint32_t kAhead = 4;
  const uint32_t subs = 1U << layout.virtual_shift;
  Stage stage(key_size(), user_value_size(), capacity, sink);
  uint32_t total = 0;
  int error = ENOENT;
  for (; cursor < layout.virtual_buckets;) {
    const uint32_t bucket = cursor >> layout.virtual_shift;
    if (bucket + kAhead < buckets_count_) __builtin_prefetch(&buckets_[bucket + kAhead]);
    prefetch_elements(bucket + 1);
    Run run{.stage = stage, .bucket = bucket, .sub = cursor & (subs - 1), .subs = subs, .left = capacity - total};
    take_bucket(run);
    total = capacity - run.left;
    cursor = (bucket << layout.virtual_shift) + run.sub;
    if (run.error != 0 || run.too_large) {
      error = run.error != 0 ? run.error : total == 0 ? ENOSPC : 0;
      break;
    }
    if (stage.is_tight() && !stage.deliver()) return {.error = EFAULT};
  }
  if (!stage.deliver()) return {.error = EFAULT};
  std::memcpy(out_cursor, &cursor, sizeof(cursor));
  return {.count = total, .error = error, .cursor_written = true};
}

template <uint32_t kKeySize, bool kPerCpu>
BatchResult HashMap<kKeySize, kPerCpu>::lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity,
                                                     uint64_t flags, BatchSink& sink) const {
  const OptionalReaderSection section(machine_, growing_);
  return walk_batch(in_cursor, out_cursor, capacity, flags, sink, [this](Run& run) {
    const Bucket& head = buckets_[run.bucket];
    const auto copy = [&](uint8_t tag, uint8_t mask, uint32_t before) {
      read_chain(head, [&](uint64_t word) {
        run.stage.truncate(before);
        copy_matching(head, word, tag, mask, run.stage);
        return 0U;
      });
    };
    run_bucket(run, copy, [](uint8_t, uint8_t, uint32_t count) { return count; });
  });
}

template <uint32_t kKeySize, bool kPerCpu>
BatchResult HashMap<kKeySize, kPerCpu>::take_batch(const Lease& lease, const void* in_cursor, void* out_cursor,
                                                   uint32_t capacity, uint64_t flags, BatchSink& sink) {
  return walk_batch(in_cursor, out_cursor, capacity, flags, sink, [&](Run& run) {
    Hold hold(table_, lease, run.bucket);
    run.error = hold.error();
    if (run.error != 0) return;
    const auto copy = [&](uint8_t tag, uint8_t mask, uint32_t) { copy_matching(hold.head(), 0, tag, mask, run.stage); };
    run_bucket(run, copy,
               [&](uint8_t tag, uint8_t mask, uint32_t count) { return erase_matching(run, hold, tag, mask, count); });
  });
}

template <uint32_t kKeySize, bool kPerCpu>
Result<uint64_t> HashMap<kKeySize, kPerCpu>::for_each(const Lease& lease,
                                                      const std::function<Visit(const void*, void*)>& visit) {
  const uint32_t key_room = table_.layout().key_room;
  Scratch current(key_room), next(key_room);
  uint64_t visited = 0;
  for (uint32_t number = 0; number < buckets_count_; ++number) {
    const Bucket& head = buckets_[number];
    prefetch_elements(number + 1);
    for (int tag = -1;;) {
      const uint32_t element = read_chain(head, [&](uint64_t) {
        const uint32_t found = successor(head, tag, current.data());
        if (found != 0) copy_from_shared(next.data(), table_.elements().key(found), key_room);
        return found;
      });
      if (element == 0) break;
      const int its_tag = probe(next.data()).tag;
      if (its_tag < tag || (its_tag == tag && compare_stored_keys(next.data(), current.data(), key_size()) <= 0)) {
        break;  // under a tag that is not its own: no skep wrote this chain, and it would come again
      }
      std::memcpy(current.data(), next.data(), key_room);
      tag = its_tag;
      ++visited;
      void* value = kPerCpu ? table_.elements().part(element, lease.cpu()) : table_.elements().value(element);
      if (visit(current.data(), value) == Visit::kStop) return visited;  // a key that stays what it is
    }
  }
  return visited;
}

template <uint32_t kKeySize, bool kPerCpu>
CheckReport HashMap<kKeySize, kPerCpu>::check() const {
  return table_.check(segments_.control.writable(),
                      [this](const void* key) { return hash_.template of<kKeySize>(key, key_size_); });
}

}  // namespace skep
