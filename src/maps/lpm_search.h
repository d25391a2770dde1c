// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "maps/lpm_trie.h"

// The longest match: LpmTrie's functions that every lookup goes through.

namespace skep {

/// The longest prefix inside a node that matches, of at most `common` bits. Unless the path there is `proven`, each is
/// compared, and `common` falls to what it had in common with the key: no longer one can match. (True of whatever stood
/// below a prefix that matches, so O1 holds while others come and go.)
template <uint32_t kWords>
[[gnu::always_inline]] inline uint32_t LpmTrie::longest_inside(const Step& step, const PrefixBits<kWords>& key,
                                                               bool proven, uint32_t& common) const {
  const Node& node = step.node;
  const uint32_t deepest = std::min(common - node.position, node.bits - 1);
  uint32_t within = deepest % LpmNode::kStride;
  for (uint32_t level = deepest / LpmNode::kStride + 1; level-- > 0; within = LpmNode::kStride - 1) {
    const uint32_t path = step.index >> (node.bits - LpmNode::kStride * level - LpmNode::kStride);  // to its children
    const Slot* const block = node.words + LpmNode::block(node.node_class(), level, path >> LpmNode::kStride);
    // Acquire pairs with the COMMIT of swap(): the element is whole for whoever sees it.
    const uint32_t found[LpmNode::kStride] = {block[1].load(std::memory_order_acquire),
                                              block[2 + ((path & 7) >> 2)].load(std::memory_order_acquire),
                                              block[4 + ((path & 7) >> 1)].load(std::memory_order_acquire)};
    if (proven) [[likely]] {
      // Chosen without a branch, as nobody can foresee it.
      uint32_t element = found[0];
      if (within >= 1 && found[1] != 0) element = found[1];
      if (within >= 2 && found[2] != 0) element = found[2];
      if (element != 0 && is_element(element)) return element;
      continue;
    }
    for (uint32_t d = within + 1; d-- > 0;) {
      const uint32_t element = found[d];
      if (element == 0 || !is_element(element) || node.position + level * LpmNode::kStride + d > common) continue;
      const uint32_t length = this->length(element);
      const uint32_t same = key.common(data(element), std::min(length, common));
      if (same == length) return element;
      common = same;
    }
  }
  return 0;
}

/// `first`, or where that is 0 `second`: without a branch, as nobody can foresee it.
[[gnu::always_inline]] inline uint32_t either(uint32_t first, uint32_t second) {
  return first | (second & (uint32_t{first != 0} - 1));
}

/// The longest of the prefixes of a block that lead to its child `path` (the last 3 bits).
[[gnu::always_inline]] inline uint32_t LpmTrie::longest_in_block(const Slot* block, uint32_t path) {
  // Acquire pairs with the COMMIT of swap(): the element is whole for whoever sees it.
  const uint32_t shortest = block[1].load(std::memory_order_acquire);
  const uint32_t middle = block[2 + (path >> 2 & 1)].load(std::memory_order_acquire);
  return either(block[4 + (path >> 1 & 3)].load(std::memory_order_acquire), either(middle, shortest));
}

/// The longest of the prefixes that lead to a node's child `index` and stand above its last two levels of blocks.
inline uint32_t LpmTrie::longest_above(uint32_t ref, uint32_t index) const {
  const Node upper = node(ref);
  for (uint32_t level = upper.node_class() - 1; level-- > 0;) {
    const uint32_t path = index >> (upper.bits - LpmNode::kStride * (level + 1));
    const Slot* const block = upper.words + 8 * (LpmNode::block_base(level) + (path >> LpmNode::kStride));
    if (const uint32_t found = longest_in_block(block, path); found != 0) return found;
  }
  return 0;
}

/// The longest match of a key of all bits. What the nodes hold is taken along on the way down, so that few branches
/// depend on the key; search_within() compares one prefix after the other where bits were skipped and neither the
/// longest prefix of the path nor the longest in its nodes matches.
template <uint32_t kWords>
[[gnu::always_inline]] inline uint32_t LpmTrie::search_whole(const PrefixBits<kWords>& key) const {
  const uint32_t limit = layout_.max_bits;
  uint32_t best = 0;  // longest prefix in the nodes so far
  uint32_t wide = 0;  // node in whose upper levels there may be a longer one
  uint32_t wide_index = 0;
  bool skipped = false;
  uint32_t slot = top().root.load(std::memory_order_acquire);
  for (uint32_t position = 0; LpmRef::is_node(slot);) {
    const Class& c = classes_[LpmRef::node_class(slot)];
    const uint32_t number = LpmRef::number(slot);
    if (number >= c.capacity) [[unlikely]]
      return search_within(key, limit);
    const auto* const words = reinterpret_cast<const Slot*>(c.base + number * c.stride);
    const uint32_t begin = words[LpmNode::kPosition].load(std::memory_order_relaxed);
    if (begin < position || begin >= PrefixBits<kWords>::kRoom * 64) [[unlikely]]
      return search_within(key, limit);
    skipped |= begin != position;
    const uint32_t index = key.bits(begin, c.bits);
    const Slot* const line = words + c.last + 16 * (index >> LpmNode::kStride);
    uint32_t inside = longest_in_block(line, index);
    if (c.bits > LpmNode::kStride) {
      inside = either(inside, longest_in_block(words + c.above + 8 * (index >> 6), index >> 3));
      if (inside == 0 && c.bits > 2 * LpmNode::kStride) {
        if (wide != 0) best = either(longest_above(wide, wide_index), best);
        wide = slot;
        wide_index = index;
      }
    }
    wide &= uint32_t{inside != 0} - 1;
    best = either(inside, best);
    position = begin + c.bits;
    slot = line[8 + (index & 7)].load(std::memory_order_acquire);
  }
  if (wide != 0) best = either(longest_above(wide, wide_index), best);
  if (slot > elements_count_ || best > elements_count_) [[unlikely]]
    return search_within(key, limit);
  __builtin_prefetch(data(best));
  // Of element 0, which there is not, the memory is that of the staged one: comparing costs less than a branch.
  const bool matches = key.matches(data(slot), length(slot));
  const uint32_t found = either(slot & (uint32_t{!matches} - 1), best);
  if (skipped && found == best && best != 0 && !key.matches(data(best), length(best))) [[unlikely]]
    return search_within(key, limit);
  return found;
}

template <uint32_t kWords>
[[gnu::always_inline]] inline uint32_t LpmTrie::search(const PrefixBits<kWords>& key, uint32_t limit) const {
  if constexpr (kWords != 0) {
    if (limit == layout_.max_bits) [[likely]]
      return search_whole(key);
  }
  return search_within(key, limit);
}

template <uint32_t kWords>
[[gnu::noinline]] uint32_t LpmTrie::search_within(const PrefixBits<kWords>& key, uint32_t limit) const {
  Step path[PrefixBits<kWords>::kMaxDepth];
  uint32_t depth = 0;
  uint32_t proven = 0;  // nodes of the path before which no bit was skipped
  uint32_t end = 0;
  uint32_t common = limit;  // no longer prefix can match
  // Acquire pairs with the COMMIT of swap(), here and below: what the slot names is complete.
  uint32_t slot = top().root.load(std::memory_order_acquire);
  while (LpmRef::is_node(slot)) {
    const Node node = this->node(slot);
    if (node.words == nullptr || node.position < end || node.position > limit ||
        depth == PrefixBits<kWords>::kMaxDepth) {
      break;
    }
    if (node.position >= PrefixBits<kWords>::kRoom * 64) break;
    const uint32_t index = key.bits(node.position, node.bits);
    const Slot& child = node.child(index);
    if (node.bits > 9) {  // what is looked at if the child does not match
      __builtin_prefetch(node.words + 8 * (LpmNode::block_base(node.node_class() - 1) + (index >> 6)));
    }
    if (proven == depth && node.position == end) ++proven;
    path[depth++] = {node, index};
    end = node.end();
    slot = child.load(std::memory_order_acquire);
  }
  if (slot != 0 && is_element(slot)) {
    const uint32_t length = this->length(slot);
    const uint32_t same = key.common(data(slot), std::min(length, limit));
    if (same == length) return slot;
    common = same;
  }
  while (depth-- > 0) {
    if (path[depth].node.position > common) continue;
    if (const uint32_t element = longest_inside(path[depth], key, depth < proven, common); element != 0) {
      return element;
    }
  }
  return 0;
}

}  // namespace skep
