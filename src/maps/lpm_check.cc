// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "maps/lpm_trie.h"

// The invariants of lpm_trie.h and lpm_pool.h, one by one. Nobody writes meanwhile.

namespace skep {
namespace {

std::string named(const char* problem, uint32_t ref) { return std::string(problem) + " " + std::to_string(ref); }

}  // namespace

CheckReport LpmTrie::check() const {
  CheckReport report;
  std::vector<bool> seen[LpmLayout::kPools];
  for (uint32_t p = 0; p < LpmLayout::kPools; ++p) seen[p].resize(layout_.pools[p].capacity);
  const auto problem = [&report](const char* text, uint32_t ref) {
    if (report.problem.empty()) report.problem = named(text, ref);
  };
  // M1: whatever is met, is met once, and in a chunk that has memory.
  const auto meet = [&](uint32_t ref) {
    const uint32_t pool = LpmPools::pool_of(ref);
    const uint32_t number = LpmRef::is_node(ref) ? LpmRef::number(ref) : ref - 1;
    if (pool >= LpmLayout::kPools || number >= seen[pool].size()) {
      problem("no such unit:", ref);
      return false;
    }
    const uint32_t chunk_number = number >> layout_.pools[pool].chunk_shift;
    const LpmChunk& chunk = pools_.chunks(pool)[chunk_number];
    if (load(chunk.state) != LpmChunk::kReady) problem("M3: in a chunk without memory:", ref);
    if (number - (chunk_number << layout_.pools[pool].chunk_shift) >= load(chunk.used)) {
      problem("M1: in use, but never taken:", ref);
    }
    if (seen[pool][number]) {
      problem("M1: in two places:", ref);
      return false;
    }
    seen[pool][number] = true;
    return report.problem.empty();
  };

  // T1 to T3: depth first; each entry is what a slot holds and the position where that slot's bits begin.
  struct Visited {
    uint32_t ref, begin;
  };
  std::vector<Visited> left;
  if (const uint32_t root = load(top().root); root != 0) left.push_back({root, 0});
  while (!left.empty() && report.problem.empty()) {
    const Visited visit = left.back();
    left.pop_back();
    if (!meet(visit.ref)) break;
    if (!LpmRef::is_node(visit.ref)) {
      ++report.elements;
      if (length(visit.ref) < visit.begin || length(visit.ref) > layout_.max_bits) {
        problem("T2: a prefix of the wrong length:", visit.ref);
      }
      if (locate(bits_of(visit.ref), length(visit.ref)).occupant != visit.ref) {
        problem("T2: not where its prefix leads:", visit.ref);
      }
      continue;
    }
    const Node here = node(visit.ref);
    if (here.position < visit.begin || here.position % LpmNode::kStride != 0 || here.position >= layout_.max_bits) {
      problem("T1: a node at a wrong position:", visit.ref);
      break;
    }
    const uint32_t items = count_items(here);
    if (items < 2) problem("T3: a node with too few items:", visit.ref);
    if (here.node_class() > 0 && load(here.words[LpmNode::kItems]) != items) {
      problem("T3: a node that counts wrongly:", visit.ref);
    }
    for (uint32_t i = 0; i < LpmNode::words(here.node_class()); ++i) {
      if (!LpmNode::is_slot(here.node_class(), i)) continue;
      const uint32_t item = load(here.words[i]);
      if (item == 0) continue;
      const bool child = LpmNode::is_child(here.node_class(), i);
      if (!child && LpmRef::is_node(item)) problem("T2: a node among prefixes:", item);
      left.push_back({item, child ? here.end() : here.position});
    }
  }
  if (report.problem.empty() && report.elements != count()) problem("T4: the count is wrong:", count());
  if (count() > max_entries_) problem("T4: too many elements:", count());
  report.free_elements = max_entries_ - std::min(count(), max_entries_);

  for (const Slot* list : {&control_.writers.open, &control_.writers.waiting}) {
    for (uint32_t ref = load(*list); ref != 0 && meet(ref);) ref = pools_.link_of(ref);
  }
  for (uint32_t p = 0; p < LpmLayout::kPools && report.problem.empty(); ++p) {
    for (uint32_t c = 0; c < layout_.pools[p].chunks; ++c) {
      const LpmChunk& chunk = pools_.chunks(p)[c];
      if (load(chunk.state) != LpmChunk::kReady) continue;
      uint32_t free = pools_.chunk_size(p, c) - load(chunk.used);
      for (uint32_t unit = load(chunk.head); unit != 0; ++free) {
        const uint32_t ref = p == LpmLayout::kElements ? unit : LpmRef::node(p - 1, unit - 1);
        if (!meet(ref)) break;
        unit = pools_.link_of(ref);
      }
      if (free != load(chunk.free)) problem("M1: a chunk that counts wrongly:", c);
      const uint32_t first = c << layout_.pools[p].chunk_shift;
      for (uint32_t i = 0; i < load(chunk.used); ++i) {
        if (!seen[p][first + i]) problem("M1: a unit is lost:", first + i);
      }
    }
  }
  if (load(control_.journal.step) != LpmJournal::kIdle) problem("an unfinished mutation:", load(control_.journal.step));
  return report;
}

}  // namespace skep
