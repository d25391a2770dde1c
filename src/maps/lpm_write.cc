// SPDX-License-Identifier: Apache-2.0
#include "maps/lpm_trie.h"
#include "maps/scratch.h"
#include "memory/shared_copy.h"
#include "skep/abi.h"

// Storing and erasing prefixes.

namespace skep {
namespace {

/// The crash points of a value that is replaced in place.
struct RedoProbe {
  static constexpr bool kEnabled = kCrashPoints;
  void operator()() const { SKEP_CRASH_POINT(); }
};

const std::byte* data_of(const void* key) { return static_cast<const std::byte*>(key) + kPrefixDataOffset; }

}  // namespace

LpmTrie::Slot& LpmTrie::slot_for(const Node& node, const Bits& key, uint32_t length) const {
  if (length >= node.end()) return node.child(key.bits(node.position, node.bits));
  const uint32_t depth = length - node.position;
  return node.prefix(depth, depth == 0 ? 0 : key.bits(node.position, depth));
}

LpmTrie::Place LpmTrie::locate(const Bits& key, uint32_t length) const {
  Place place = {};
  place.slot = &top().root;
  for (uint32_t begin = 0;;) {
    const uint32_t occupant = place.occupant = load(*place.slot);
    if (occupant == 0) return place;
    if (!LpmRef::is_node(occupant)) {
      const uint32_t other = this->length(occupant);
      place.common = key.common(data(occupant), std::min(length, other));
      place.exact = length == other && place.common == length;
      return place;
    }
    const Node below = node(occupant);
    if (below.position > begin) {
      place.common = key.common(data(element_in(occupant)), std::min(length, below.position));
      if (place.common < below.position) return place;
    }
    place.parent_slot = place.node_slot;
    place.parent = place.node;
    place.node_slot = place.slot;
    place.node = occupant;
    place.slot = &slot_for(below, key, length);
    begin = below.end();
    if (length < begin) {
      place.occupant = load(*place.slot);
      place.exact = place.occupant != 0;
      return place;
    }
  }
}

void LpmTrie::fill(uint32_t element, const void* key, const void* value) const {
  std::byte* const to = elements_ + element * element_stride_;
  const uint32_t length = load_prefix_length(key);
  copy_to_shared(to, data_of(key), layout_.data_size);
  __atomic_store_n(reinterpret_cast<uint32_t*>(to + layout_.length_offset), length, __ATOMIC_RELAXED);
  copy_to_shared(to + layout_.value_offset, value, value_size_);
}

LpmTrie::Node LpmTrie::clear_node(uint32_t ref, uint32_t position) const {
  Node fresh = node(ref);
  const uint32_t words = LpmNode::words(fresh.node_class());
  for (uint32_t i = 0; i < words; ++i) fresh.words[i].store(0, std::memory_order_relaxed);
  fresh.position = position;
  fresh.words[LpmNode::kPosition].store(position, std::memory_order_relaxed);
  return fresh;
}

void LpmTrie::put_into(const Node& node, uint32_t item) const {
  const uint32_t element = LpmRef::is_node(item) ? element_in(item) : item;
  const uint32_t length = LpmRef::is_node(item) ? node.end() : this->length(element);
  slot_for(node, bits_of(element), length).store(item, std::memory_order_relaxed);
}

Status LpmTrie::put(const Hold&, const void* key, const void* value, uint64_t flags) {
  const uint32_t length = load_prefix_length(key);
  const Bits prefix(data_of(key), layout_.data_size);
  pools_.reclaim(false);
  const Place place = locate(prefix, length);
  if (place.exact) return flags == BPF_NOEXIST ? fail(EEXIST) : replace(place, key, value);
  if (flags == BPF_EXIST) return fail(ENOENT);
  if (count() >= max_entries_) return fail(ENOSPC);
  return insert(place, prefix, length, key, value);
}

Status LpmTrie::insert(const Place& place, const Bits& prefix, uint32_t length, const void* key, const void* value) {
  const auto element = pools_.take(LpmLayout::kElements, 0);
  if (!element) return std::unexpected(element.error());
  fill(*element, key, value);
  Change change = {.count = count() + 1};
  if (place.occupant == 0) {
    if (place.node != 0 && LpmRef::node_class(place.node) > 0) {
      change.node = place.node;
      change.items = load(node(place.node).words[LpmNode::kItems]) + 1;
    }
    swap(*place.slot, *element, change);
    return {};
  }
  const auto fork = pools_.take(LpmLayout::kElements + 1, 1);
  if (!fork) {
    give_up();
    return std::unexpected(fork.error());
  }
  const Node fresh = clear_node(*fork, place.common / LpmNode::kStride * LpmNode::kStride);
  put_into(fresh, place.occupant);
  slot_for(fresh, prefix, length).store(*element, std::memory_order_relaxed);
  swap(*place.slot, *fork, change);
  if (place.node == 0) return {};
  const Node parent = node(place.node);
  if (fresh.position != parent.end()) return {};
  if (parent.node_class() > 0) {
    Slot& adjacent = parent.words[LpmNode::kAdjacent];
    if (!LpmRef::is_node(place.occupant) || node(place.occupant).position != fresh.position) {
      commit(adjacent, load(adjacent) + 1);
    }
  }
  widen(place.node_slot);
  return {};
}

Status LpmTrie::replace(const Place& place, const void* key, const void* value) {
  const auto element = pools_.take(LpmLayout::kElements, 0);
  if (element) {
    fill(*element, key, value);
    swap(*place.slot, *element, {.count = count(), .retire = {place.occupant, 0}});
    return {};
  }
  Scratch record(element_stride_);
  std::memcpy(record.data(), data_of(key), layout_.data_size);
  std::memcpy(record.data() + layout_.length_offset, key, sizeof(uint32_t));
  std::memcpy(record.data() + layout_.value_offset, value, value_size_);
  const uint32_t size = layout_.value_offset + value_size_;
  redo().write({place.occupant - 1, 0, 1, size}, record.data(), 0, RedoProbe{});
  return {};
}

LpmTrie::Rest LpmTrie::rest(const Node& node, const Slot* except) const {
  Rest found = {};
  const uint32_t node_class = node.node_class();
  if (node_class > 0 && load(node.words[LpmNode::kItems]) > 2) {
    return {.items = load(node.words[LpmNode::kItems]) - 1, .item = 0};
  }
  for (uint32_t i = 0; i < LpmNode::words(node_class); ++i) {
    if (!LpmNode::is_slot(node_class, i) || &node.words[i] == except) continue;
    if (const uint32_t item = load(node.words[i]); item != 0) found = {.items = found.items + 1, .item = item};
  }
  return found;
}

Status LpmTrie::erase(const Hold&, const void* key) {
  pools_.reclaim(false);
  const Place place = locate(Bits(data_of(key), layout_.data_size), load_prefix_length(key));
  if (!place.exact) return fail(ENOENT);
  Change change = {.count = count() - 1, .retire = {place.occupant, 0}};
  if (place.node == 0) {
    swap(*place.slot, 0, change);
    return {};
  }
  const Node holder = node(place.node);
  const Rest left = rest(holder, place.slot);
  if (left.items > 1) {
    if (holder.node_class() > 0) {
      change.node = place.node;
      change.items = left.items;
    }
    swap(*place.slot, 0, change);
    return {};
  }
  // What is left takes the node's place in the same store.
  change.retire[1] = place.node;
  bool was_adjacent = false;
  Node parent = {};
  if (place.parent != 0 && LpmRef::node_class(place.parent) > 0) {
    parent = node(place.parent);
    was_adjacent = holder.position == parent.end();
  }
  swap(*place.node_slot, left.item, change);
  if (was_adjacent && !is_adjacent(parent, left.item)) {
    Slot& adjacent = parent.words[LpmNode::kAdjacent];
    commit(adjacent, load(adjacent) - 1);
  }
  return {};
}

}  // namespace skep
