// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "machine/recovery.h"
#include "maps/hash_table.h"

// The structural check of a hash map: walks every place where an element can be.

namespace skep {
namespace {

/// Who has each element or overflow bucket; a second owner is a problem.
class Owners {
 public:
  Owners(std::string what, uint32_t count, std::string& problem)
      : what_(std::move(what)), owner_(count + 1, nullptr), problem_(problem) {}

  bool claim(uint32_t number, const char* owner) {
    if (number == 0 || number >= owner_.size()) {
      return complain(std::string("number ") + std::to_string(number) + " in " + owner + " does not exist");
    }
    if (owner_[number] != nullptr) {
      return complain(std::to_string(number) + " is both in " + owner_[number] + " and in " + owner);
    }
    owner_[number] = owner;
    return true;
  }
  void all_claimed(uint32_t first, uint32_t last) {
    for (uint32_t i = first; i <= last; ++i) {
      if (owner_[i] == nullptr) complain(std::to_string(i) + " is nowhere");
    }
  }

 private:
  bool complain(const std::string& text) {
    if (problem_.empty()) problem_ = what_ + " " + text;
    return false;
  }
  std::string what_;
  std::vector<const char*> owner_;
  std::string& problem_;
};

}  // namespace

CheckReport HashTable::check(bool writable, const std::function<uint64_t(const void* key)>& hash_of) {
  CheckReport report;
  const auto complain = [&report](const std::string& text) {
    if (report.problem.empty()) report.problem = text;
  };
  const uint32_t seen = load(pool_.pool().slots_seen);
  if (writable) {
    const auto guard = machine_.lock_recovery(header_.file.id);
    if (guard.error() != 0) complain("somebody repairs the map and does not come to an end");
    for (uint32_t slot = 0; slot < seen && guard.error() == 0; ++slot) {
      const uint32_t process = load(pool_.journal(slot).process);
      if (process != 0 && is_busy(slot) && !machine_.alive(ProcessTag{process})) {
        if (repair_slot(slot) != 0) complain("what slot " + std::to_string(slot) + " left cannot be repaired now");
      }
    }
  }
  Owners elements("element", layout_.elements, report.problem);
  Owners overflow("overflow bucket", layout_.overflow_buckets, report.problem);

  for (uint32_t number = 0; number < layout_.buckets; ++number) {
    const Bucket& head = buckets_[number];
    const std::string name = "bucket " + std::to_string(number);
    if ((load(head.word) & (Bucket::kHolderMask | Bucket::kInPlace)) != 0) complain(name + " is held");
    for (const Bucket* bucket = &head; bucket != nullptr; bucket = next(*bucket)) {
      const Bucket* after = next(*bucket);
      if (after != nullptr && !overflow.claim(static_cast<uint32_t>(after - overflow_) + 1, "a chain")) return report;
      uint32_t used = 0;
      bool hole = false, hole_before_element = false;
      for (uint32_t i = 0; i < (after != nullptr ? Bucket::kLinkSlot : Bucket::kSlots); ++i) {
        const uint32_t element = load(bucket->slots[i]);
        if (element == 0) {
          hole = true;
          continue;
        }
        hole_before_element |= hole;
        ++used;
        if (!elements.claim(element, "a chain")) return report;
        const uint64_t hash = hash_of(elements_.key(element));
        if ((hash & (layout_.buckets - 1)) != number) complain(name + " has an element of another bucket");
        if (static_cast<uint8_t>(hash >> 56) != load(bucket->tags[i])) complain(name + " has a wrong tag");
        if (pool_.uses().any() && !pool_.uses().in_chain(element)) complain(name + " has an element that no hand sees");
        ++report.elements;
      }
      if (after != nullptr && hole) complain(name + " has a hole before the end of its chain");
      if (bucket != &head && after == nullptr && (used == 0 || hole_before_element)) {
        complain(name + " ends in an overflow bucket that is empty or has a hole");
      }
    }
  }

  uint32_t spares = 0;
  for (uint32_t slot = 0; slot < machine_.slots(); ++slot) {
    const HashMagazine& magazine = pool_.magazine(slot);
    const SlotJournal& left = pool_.journal(slot);
    if (load(magazine.lock) != 0) complain("magazine " + std::to_string(slot) + " is locked");
    for (uint32_t i = 0; i < load(magazine.count); ++i) {
      report.free_elements += elements.claim(load(magazine.items[i]), "a magazine");
    }
    const uint32_t spare = load(left.spare), bucket = load(left.overflow);
    if (spare != 0) elements.claim(spare & ~SlotJournal::kKept, "a journal");
    if (!layout_.spare_per_slot) {
      spares += spare != 0;
      if (spare != 0 && (spare & SlotJournal::kKept) == 0) complain("slot " + std::to_string(slot) + " uses a spare");
    }
    if (bucket != 0) overflow.claim(bucket & ~SlotJournal::kKept, "a journal");
    if ((load(left.bucket) | load(left.in_hand) | load(left.to_free) | load(left.replaced) | load(left.in_place) |
         load(left.chunk)) != 0 ||
        (bucket != 0 && (bucket & SlotJournal::kKept) == 0)) {
      complain("the journal of slot " + std::to_string(slot) + " is not idle");
    }
  }
  if (load(pool_.pool().lock) != 0) complain("the pool is locked");
  if (!layout_.spare_per_slot) {
    if (spares + load(pool_.pool().spares) != layout_.spares) complain("the spare elements are not all there");
    for (uint32_t i = 0; i < load(pool_.pool().spares); ++i) elements.claim(pool_.reserve(i), "the reserve");
  }
  for (uint32_t number = 0; number < layout_.chunks; ++number) {
    const HashChunk& chunk = pool_.chunk(number);
    const bool absent = load(chunk.state) == HashChunk::kAbsent || load(chunk.state) == HashChunk::kMoving;
    uint32_t free = 0;
    if (!absent) {
      for (uint32_t e = load(chunk.head); e != 0 && elements.claim(e, "a chunk"); e = load(elements_.next_free(e))) {
        ++free;
        if (layout_.chunk_of(e) != number) complain("a free element is in another chunk's list");
      }
    }
    for (uint32_t i = absent ? 0 : load(chunk.used); i < layout_.chunk_size(number); ++i, ++free) {
      elements.claim(layout_.chunk_first(number) + i, "a chunk");
    }
    if (!absent && free != load(chunk.free)) complain("chunk " + std::to_string(number) + " counts its elements wrong");
    report.free_elements += free;
  }
  elements.all_claimed(1, layout_.elements);
  for (uint32_t b = load(pool_.pool().overflow_head); b != 0; b = static_cast<uint32_t>(load(overflow_[b - 1].word))) {
    if (!overflow.claim(b, "the free list")) return report;
  }
  overflow.all_claimed(1, load(pool_.pool().overflow_used));
  if (report.elements + report.free_elements != header_.spec.max_entries) {
    complain(std::to_string(report.elements) + " elements and " + std::to_string(report.free_elements) +
             " free ones are not max_entries");
  }
  return report;
}

}  // namespace skep
