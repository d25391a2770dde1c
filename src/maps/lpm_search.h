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
    const Slot* const block = node.words + 8 * (LpmNode::block_base(level) + (path >> LpmNode::kStride));
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

template <uint32_t kWords>
inline uint32_t LpmTrie::search(const PrefixBits<kWords>& key, uint32_t limit) const {
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
      __builtin_prefetch(&child);
      __builtin_prefetch(node.words + 8 * (LpmNode::block_base(node.node_class()) + (index >> LpmNode::kStride)));
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
