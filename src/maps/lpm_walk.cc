// SPDX-License-Identifier: Apache-2.0
#include "maps/lpm_trie.h"

// Walking in post-order: what is below a prefix, the 0 side first, before the prefix itself. Writes nothing.

namespace skep {

/// The first item of a node in post-order among those whose prefixes begin with `depth` bits `path`.
uint32_t LpmTrie::first_within(const Node& node, uint32_t depth, uint32_t path) const {
  if (depth == node.bits) return node.child(path).load(std::memory_order_acquire);
  if (const uint32_t left = first_within(node, depth + 1, 2 * path); left != 0) return left;
  if (const uint32_t right = first_within(node, depth + 1, 2 * path + 1); right != 0) return right;
  return node.prefix(depth, path).load(std::memory_order_acquire);
}

/// The first element of what a slot held; kVanished: a node in which nothing was met, because its items were replaced
/// one after the other in front of this reader. Then what stands behind the node has not been looked at.
uint32_t LpmTrie::first_of(uint32_t ref) const {
  for (uint32_t end = 0; LpmRef::is_node(ref);) {
    const Node below = node(ref);
    if (below.words == nullptr || below.position < end || below.position >= kMaxPrefixBits) return 0;
    end = below.end();
    ref = first_within(below, 0, 0);
    if (ref == 0) return kVanished;
  }
  return is_element(ref) ? ref : 0;
}

/// Walks until nothing vanished on the way: kWalks times at most, as in a damaged trie something always may have.
template <class Walk>
uint32_t LpmTrie::repeated(const Walk& walk) {
  for (uint32_t times = 0; times < kWalks; ++times) {
    if (const uint32_t element = walk(); element != kVanished) return element;
  }
  return 0;
}

uint32_t LpmTrie::first() const {
  return repeated([&] { return first_of(top().root.load(std::memory_order_acquire)); });
}

/// The element with exactly this prefix, and the nodes on the way to where it is.
uint32_t LpmTrie::path_to(const Bits& key, uint32_t length, Step* steps, uint32_t& depth) const {
  depth = 0;
  uint32_t slot = top().root.load(std::memory_order_acquire);
  for (uint32_t end = 0; LpmRef::is_node(slot);) {
    const Node below = node(slot);
    if (below.words == nullptr || below.position < end || below.position > length ||
        below.position >= layout_.max_bits) {
      return 0;
    }
    end = below.end();
    steps[depth++] = {below, key.bits(below.position, below.bits)};
    slot = slot_for(below, key, length).load(std::memory_order_acquire);
    if (length < end) break;
  }
  if (slot == 0 || !is_element(slot) || this->length(slot) != length) return 0;
  return key.common(data(slot), length) == length ? slot : 0;
}

uint32_t LpmTrie::exact(const Bits& key, uint32_t length) const {
  Step steps[Bits::kMaxDepth];
  uint32_t depth;
  return path_to(key, length, steps, depth);
}

uint32_t LpmTrie::next(const Bits& key, uint32_t length) const {
  return repeated([&] { return next_once(key, length); });
}

uint32_t LpmTrie::next_once(const Bits& key, uint32_t length) const {
  Step steps[Bits::kMaxDepth];
  uint32_t depth;
  if (length > layout_.max_bits || path_to(key, length, steps, depth) == 0) return first();
  while (depth-- > 0) {
    const Node& at = steps[depth].node;
    // Up from the prefix, or from the child that it is below: at each bit that is 0, the other side comes first.
    for (uint32_t below = std::min(length - at.position, at.bits); below-- > 0;) {
      const uint32_t path = steps[depth].index >> (at.bits - below - 1);
      if ((path & 1) == 0) {
        if (const uint32_t found = first_of(first_within(at, below + 1, path | 1)); found != 0) return found;
      }
      const uint32_t element = at.prefix(below, path >> 1).load(std::memory_order_acquire);
      if (is_element(element)) return element;
    }
  }
  return 0;
}

}  // namespace skep
