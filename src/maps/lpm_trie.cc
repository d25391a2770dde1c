// SPDX-License-Identifier: Apache-2.0
#include "maps/lpm_trie.h"

#include "machine/holder_lock.h"

// Mutations as such: the lock, the journal, and what is left of a dead writer.

namespace skep {

LpmTrie::LpmTrie(const LpmLayout& layout, const MapSegments& segments, Machine& machine)
    : layout_(layout),
      window_(segments.control),
      max_entries_(segments.header().spec.max_entries),
      value_size_(segments.header().spec.value_size),
      control_(*reinterpret_cast<LpmControl*>(window_.data() + kControlOffset)),
      elements_(window_.data() + layout_.pools[LpmLayout::kElements].units -
                layout_.pools[LpmLayout::kElements].stride),
      element_stride_(layout_.pools[LpmLayout::kElements].stride),
      elements_count_(layout_.pools[LpmLayout::kElements].capacity),
      staging_(window_.data() + layout_.staging),
      places_{.base = elements_ + element_stride_,
              .elements = elements_count_,
              .element_stride = element_stride_,
              .piece_stride = 0,
              .pieces = 1,
              .piece_room = static_cast<uint32_t>(element_stride_)},
      gaps_(segments.header().spec.fields),
      pools_(layout_, window_, machine) {
  for (uint32_t c = 0; c < LpmNode::kClasses; ++c) {
    const LpmLayout::Pool& pool = layout_.pools[c + 1];
    classes_[c] = {.base = window_.data() + pool.units,
                   .stride = pool.stride,
                   .capacity = pool.capacity,
                   .bits = LpmNode::bits(c),
                   .last = LpmNode::last(c),
                   .above = c > 0 ? 8 * LpmNode::block_base(c - 1) : 0};
  }
}

int LpmTrie::lock(const Lease& lease) {
  const auto taken = HolderLock::acquire(lease, control_.writers.lock);
  if (!taken) return to_int(taken.error());
  SKEP_CRASH_POINT();
  if (*taken == HolderLock::Taken::kFromDead) repair();
  return 0;
}

void LpmTrie::unlock() {
  HolderLock::release(control_.writers.lock);
  SKEP_CRASH_POINT();
}

/// settled_value() while a value is being replaced in place. What a live writer is about to complete is not waited for.
[[gnu::noinline]] std::byte* LpmTrie::settle(const Lease& lease, uint32_t element) {
  if (!redo().is_incomplete(element - 1)) return value(element);
  const ProcessTag writer = HolderLock::holder(control_.writers.lock.load(std::memory_order_acquire));
  if (writer == ProcessTag{} || lease.machine().alive(writer)) return value(element);
  if (!window_.writable()) return redo().staged(0) + layout_.value_offset;
  const Hold hold(*this, lease);  // repairs
  return value(element);
}

void LpmTrie::swap(Slot& slot, uint32_t after, const Change& change) {
  LpmJournal& journal = control_.journal;
  commit(journal.place, static_cast<uint64_t>(reinterpret_cast<std::byte*>(&slot) - window_.data()));
  commit(journal.before, load(slot));
  commit(journal.after, after);
  commit(journal.count_after, change.count);
  commit(journal.node, change.node);
  commit(journal.items_after, change.items);
  commit(journal.retire[0], change.retire[0]);
  commit(journal.retire[1], change.retire[1]);
  commit(journal.swallows, uint32_t{change.swallows});
  commit(journal.retired, 0);
  commit(journal.step, LpmJournal::kSwap);
  commit(slot, after);  // COMMIT; pairs with the acquire loads of readers
  finish(false);
}

/// What follows a COMMIT; may be begun again at any point.
void LpmTrie::finish(bool repairing) {
  LpmJournal& journal = control_.journal;
  commit(control_.writers.count, load(journal.count_after));
  if (const uint32_t wide = load(journal.node); wide != 0) {
    commit(node(wide).words[LpmNode::kItems], load(journal.items_after));
  }
  const bool swallows = load(journal.swallows) != 0;
  const Node old = swallows ? node(load(journal.before)) : Node{};
  const uint32_t all = 2 + (swallows ? LpmNode::slots(old.node_class()) : 0);
  for (uint32_t i = load(journal.retired); i < all; ++i) {
    uint32_t ref = i < 2 ? load(journal.retire[i]) : load(old.child(i - 2));
    if (i >= 2 && !is_adjacent(old, ref)) ref = 0;
    if (ref == 0) continue;
    pools_.retire(ref, repairing);
    repairing = false;  // only the first can be on the list already
    commit(journal.retired, i + 1);
  }
  pools_.forget_taken();
  commit(journal.step, LpmJournal::kIdle);
}

void LpmTrie::repair() {
  redo().repair();
  pools_.repair_lists();
  const LpmJournal& journal = control_.journal;
  bool committed = load(journal.step) == LpmJournal::kSwap;
  if (committed) {
    const uint64_t place = load(journal.place);
    committed = place <= layout_.size - sizeof(Slot) && place % sizeof(Slot) == 0 &&
                load(*reinterpret_cast<Slot*>(window_.data() + place)) == load(journal.after);
  }
  if (committed) {
    finish(true);
  } else {
    pools_.give_back_taken(true);
    commit(control_.journal.step, LpmJournal::kIdle);
  }
  pools_.repair_memory();
}

}  // namespace skep
