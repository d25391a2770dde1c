// SPDX-License-Identifier: Apache-2.0
#include "maps/lpm_trie.h"

// How nodes become wider. Nothing here changes what the trie holds; where there is no memory, it stays as it is.

namespace skep {

uint32_t LpmTrie::count_items(const Node& node) const {
  const uint32_t node_class = node.node_class(), words = LpmNode::words(node_class);
  uint32_t items = 0;
  for (uint32_t i = 0; i < words; ++i) items += LpmNode::is_slot(node_class, i) && load(node.words[i]) != 0;
  return items;
}

uint32_t LpmTrie::count_adjacent(const Node& node) const {
  uint32_t adjacent = 0;
  for (uint32_t i = 0; i < LpmNode::slots(node.node_class()); ++i) adjacent += is_adjacent(node, load(node.child(i)));
  return adjacent;
}

void LpmTrie::widen(Slot* slot) {
  while (widen_once(slot)) {
  }
}

/// Makes the node in `slot` wider by three bits where at least half of its children begin where it ends: they become
/// part of it.
bool LpmTrie::widen_once(Slot* slot) {
  const uint32_t ref = load(*slot);
  const Node old = node(ref);
  const uint32_t half = LpmNode::slots(old.node_class()) / 2, wider = old.node_class() + 1;
  if (wider >= LpmNode::kClasses || classes_[wider].capacity == 0) return false;
  if (wider > 1 && load(old.words[LpmNode::kAdjacent]) < half) return false;
  const uint32_t adjacent = count_adjacent(old);
  if (wider > 1) commit(old.words[LpmNode::kAdjacent], adjacent);
  if (adjacent < half) return false;
  for (uint32_t i = 0; i < LpmNode::slots(old.node_class()); ++i) {
    const uint32_t child = load(old.child(i));
    if (!is_adjacent(old, child) || LpmRef::node_class(child) == 0) continue;
    if (!split(&old.child(i))) return false;
    if (wider > 1 && !is_adjacent(old, load(old.child(i)))) {
      commit(old.words[LpmNode::kAdjacent], load(old.words[LpmNode::kAdjacent]) - 1);
    }
  }
  const auto taken = pools_.take(wider + 1, 0);
  if (!taken) return false;
  const Node wide = clear_node(*taken, old.position);
  const auto copy_block = [](const Node& from, uint32_t block, const Node& to, uint32_t copy) {
    for (uint32_t j = 1; j < 8; ++j) to.words[copy + j].store(load(from.words[block + j]), std::memory_order_relaxed);
  };
  for (uint32_t level = 0; level < wider; ++level) {
    for (uint32_t path = 0; path < 1U << (LpmNode::kStride * level); ++path) {
      copy_block(old, LpmNode::block(wider - 1, level, path), wide, LpmNode::block(wider, level, path));
    }
  }
  for (uint32_t i = 0; i < LpmNode::slots(old.node_class()); ++i) {
    const uint32_t item = load(old.child(i));
    if (item == 0) continue;
    if (!is_adjacent(old, item)) {
      put_into(wide, item);
      continue;
    }
    const Node child = node(item);
    copy_block(child, 0, wide, LpmNode::block(wider, wider, i));
    for (uint32_t j = 0; j < 8; ++j) wide.child(8 * i + j).store(load(child.child(j)), std::memory_order_relaxed);
  }
  wide.words[LpmNode::kItems].store(count_items(wide), std::memory_order_relaxed);
  wide.words[LpmNode::kAdjacent].store(count_adjacent(wide), std::memory_order_relaxed);
  swap(*slot, *taken, {.count = count(), .retire = {ref, 0}, .swallows = true});
  return true;
}

/// Makes a wide node one of three bits above others, so that its parent can take it over; or, where all of it is in one
/// of these, that one alone, which then begins where the parent does not end.
bool LpmTrie::split(Slot* slot) {
  const uint32_t ref = load(*slot);
  const Node old = node(ref);
  const uint32_t narrower = old.node_class() - 1;
  const uint32_t children = LpmNode::slots(narrower);
  // Calls visit(item, its word in a node of the branch) for all that is below it.
  const auto for_each_item = [&](uint32_t branch, const auto& visit) {
    for (uint32_t level = 0; level <= narrower; ++level) {
      const uint32_t blocks = 1U << (LpmNode::kStride * level);
      for (uint32_t i = 0; i < blocks; ++i) {
        const uint32_t from = LpmNode::block(old.node_class(), level + 1, branch * blocks + i);
        for (uint32_t j = 1; j < 8; ++j) {
          if (const uint32_t item = load(old.words[from + j]); item != 0) {
            visit(item, LpmNode::block(narrower, level, i) + j);
          }
        }
      }
    }
    for (uint32_t i = 0; i < children; ++i) {
      if (const uint32_t item = load(old.child(branch * children + i)); item != 0) {
        visit(item, LpmNode::child(narrower, i));
      }
    }
  };
  // The branch's items as a node, the `place`-th unit that this change takes; 0: there is no memory.
  const auto node_of_branch = [&](uint32_t branch, uint32_t items, uint32_t place) -> uint32_t {
    const auto taken = pools_.take(narrower + 1, place);
    if (!taken) return 0;
    const Node lower = clear_node(*taken, old.position + LpmNode::kStride);
    for_each_item(branch,
                  [&](uint32_t item, uint32_t word) { lower.words[word].store(item, std::memory_order_relaxed); });
    if (narrower > 0) {
      lower.words[LpmNode::kItems].store(items, std::memory_order_relaxed);
      lower.words[LpmNode::kAdjacent].store(count_adjacent(lower), std::memory_order_relaxed);
    }
    return *taken;
  };

  uint32_t items[8] = {}, last[8] = {}, things = 0, full_branch = 0;
  for (uint32_t i = 1; i < 8; ++i) things += load(old.words[i]) != 0;
  for (uint32_t branch = 0; branch < 8; ++branch) {
    for_each_item(branch, [&](uint32_t item, uint32_t) {
      ++items[branch];
      last[branch] = item;
    });
    if (items[branch] == 0) continue;
    ++things;
    full_branch = branch;
  }
  if (things == 1 && items[full_branch] > 1) {
    const uint32_t lower = node_of_branch(full_branch, items[full_branch], 0);
    if (lower == 0) return false;
    swap(*slot, lower, {.count = count(), .retire = {ref, 0}});
    return true;
  }
  const auto upper_taken = pools_.take(LpmLayout::kElements + 1, 0);
  if (!upper_taken) return false;
  const Node upper = clear_node(*upper_taken, old.position);
  for (uint32_t i = 1; i < 8; ++i) upper.words[i].store(load(old.words[i]), std::memory_order_relaxed);
  for (uint32_t branch = 0; branch < 8; ++branch) {
    uint32_t below = last[branch];
    if (items[branch] > 1) below = node_of_branch(branch, items[branch], branch + 1);
    if (items[branch] > 1 && below == 0) {
      give_up();
      return false;
    }
    upper.child(branch).store(below, std::memory_order_relaxed);
  }
  swap(*slot, *upper_taken, {.count = count(), .retire = {ref, 0}});
  return true;
}

}  // namespace skep
