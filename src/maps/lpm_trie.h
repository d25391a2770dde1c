// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "machine/crash_point.h"
#include "machine/lease.h"
#include "maps/lpm_key.h"
#include "maps/lpm_layout.h"
#include "maps/lpm_pool.h"
#include "maps/map.h"
#include "maps/redo_log.h"

namespace skep {

/// The prefixes of a BPF_MAP_TYPE_LPM_TRIE: a trie of nodes that each decide 3, 6, 9, ... 21 bits, path-compressed.
///
/// Layout: lpm_layout.h draws a node and the window. A slot (the root, a word of a node) holds nothing, an element, or,
/// where it is a child, a node. With 10.0.0.0/8, 10.1.0.0/16 and 10.1.2.0/24 in the trie:
///
///     root -> [position 6: bits 6-8   prefix /8   child 4 -> ] -> [position 15: bits 15-17   prefix /16   child 4 -> ]
///              the bits before are 10's and nobody looks                                       10.1.2.0/24 (element)
///
/// Why: a binary trie visits about log2(n) nodes, each a cache miss. Here 64 bytes, one line, decide three bits, and
/// where a node's children are dense it takes them over and becomes eight times as wide, down to one node for the first
/// 21 bits of a large routing table: one load for the child and, when that does not match, one for the longest prefix
/// inside the node. All changes are single stores, since nothing is counted, compressed or pushed down.
///
/// Operations: search (longest match), exact, next (post-order), put, erase; repair; check.
///
/// Invariants
///   T1 A node's position is a multiple of 3 and not less than its parent's position + bits.
///   T2 All elements below a node agree in the bits before its position; those below a child, in the node's bits too.
///      An element whose prefix ends inside a node stands in a block of it, every other one below a child.
///   T3 A node holds two things (elements, nodes) at least.
///   T4 A prefix is in the trie once; writers.count says how many, and never exceeds max_entries.
///   T5 Elements and nodes that left the trie do not change until a grace period has elapsed; nodes not at all, and
///      elements in it only by the redo log.
/// Ordering guarantees
///   O1 A prefix that is in the trie during a whole search and matches is found, or a longer one is.
///   O2 A value that is copied is one that an update stored, whole (programs that write through pointers apart).
///   O3 An update or erase that returned before a search began is seen by it.
///   O4 Iteration meets every prefix that stays exactly once, whatever happens to others meanwhile, as long as the one
///      it stands on stays.
///   O5 A reader ends and stays inside the window, whatever stands there: references are checked, positions must grow.
/// Progress: readers are wait-free but for values replaced in place, and for walks, which begin again, kWalks times at
///   most, where all items of a node were replaced in front of them. Writers wait for each other.
/// Reclamation: lpm_pool.h; readers are in a reader section or have a lease.
/// Locks: one word for all writers (holder_lock.h); who takes it over from a dead holder finishes or undoes what the
///   journal says.
/// Crash safety: every mutation has one COMMIT, the store to the slot.
/// Limits and errno: ENOSPC (full), ENOMEM (no memory), EDEADLK (this thread holds the lock: a signal handler, a
///   callback), ETIMEDOUT (a live holder does not move).
/// Differences from the kernel: where there is no memory to replace an element, it is overwritten in place under the
///   redo log, so that pointers found before see the new value, and those found meanwhile both.
class LpmTrie {
 public:
  using Slot = std::atomic<uint32_t>;
  /// Data of any size, for writers and walks.
  using Bits = PrefixBits<0>;

  LpmTrie(const LpmLayout& layout, const MapSegments& segments, Machine& machine);
  LpmTrie(const LpmTrie&) = delete;
  LpmTrie& operator=(const LpmTrie&) = delete;

  /// The exclusive right to change the trie, while it lives. What a dead holder left has been repaired.
  class Hold {
   public:
    Hold(LpmTrie& trie, const Lease& lease) : trie_(trie), error_(trie.lock(lease)) {}
    ~Hold() {
      if (error_ == 0) trie_.unlock();
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    /// 0, or why it is not held: EDEADLK, ETIMEDOUT.
    [[nodiscard]] int error() const { return error_; }

   private:
    LpmTrie& trie_;
    int error_;
  };

  /// The element with the longest prefix of at most `limit` bits that `key` begins with, or 0.
  template <uint32_t kWords>
  [[nodiscard]] uint32_t search(const PrefixBits<kWords>& key, uint32_t limit) const;
  /// The element with exactly this prefix, or 0.
  [[nodiscard]] uint32_t exact(const Bits& key, uint32_t length) const;
  /// The element after that prefix in post-order; the first one if it is not in the trie. 0: none.
  [[nodiscard]] uint32_t next(const Bits& key, uint32_t length) const;
  [[nodiscard]] uint32_t first() const;

  /// Stores an element, new or in the place of the one with the same prefix. BPF_ANY, BPF_NOEXIST, BPF_EXIST.
  Status put(const Hold& hold, const void* key, const void* value, uint64_t flags);
  Status erase(const Hold& hold, const void* key);

  /// Reads parts of an element while values may be replaced in place; repeats until `copy` was not disturbed.
  [[nodiscard]] RedoLog redo() const { return {top().redo, staging_, places_, gaps_}; }

  [[nodiscard]] const std::byte* data(uint32_t element) const { return elements_ + element * element_stride_; }
  [[nodiscard]] uint32_t length(uint32_t element) const {
    return __atomic_load_n(reinterpret_cast<const uint32_t*>(data(element) + layout_.length_offset), __ATOMIC_RELAXED);
  }
  [[nodiscard]] std::byte* value(uint32_t element) const {
    return elements_ + element * element_stride_ + layout_.value_offset;
  }
  [[nodiscard]] const LpmLayout& layout() const { return layout_; }
  /// The value of an element for who reads it in its place. Where a process died while it replaced it there, it is
  /// completed; through a window that does not allow that, the complete one stands elsewhere.
  [[nodiscard, gnu::always_inline]] std::byte* settled_value(const Lease& lease, uint32_t element) {
    // Acquire as in RedoLog::begin_read().
    if ((top().redo.sequence.load(std::memory_order_acquire) & 1) != 0) [[unlikely]]
      return settle(lease, element);
    return value(element);
  }
  /// The whole of an element, as redo() copies it.
  [[nodiscard]] ValueRange range(uint32_t element) const { return {element - 1, 0, 1, places_.piece_room}; }

  /// Checks every invariant; the caller holds the lock, or nobody writes.
  [[nodiscard]] CheckReport check() const;

 private:
  /// A node as a reader or writer has it before it.
  struct Node {
    Slot* words;
    uint32_t ref;
    uint32_t position;
    uint32_t bits;
    [[nodiscard]] uint32_t node_class() const { return LpmRef::node_class(ref); }
    [[nodiscard]] uint32_t end() const { return position + bits; }
    [[nodiscard]] Slot& child(uint32_t index) const { return words[LpmNode::child(node_class(), index)]; }
    [[nodiscard]] Slot& prefix(uint32_t depth, uint32_t path) const {
      return words[LpmNode::prefix(node_class(), depth, path)];
    }
  };
  /// A node on the path of a key; `index`: the key's bits there.
  struct Step {
    Node node;
    uint32_t index;
  };
  /// Where a prefix is, or belongs, for writers.
  struct Place {
    Slot* slot;         // that holds it, or takes it
    uint32_t occupant;  // what is in there
    bool exact;         // the occupant is the prefix's element
    uint32_t common;    // bits that the prefix and all below an occupant have in common, if that is not exact
    Slot* node_slot;    // that holds `node`
    uint32_t node;      // the node with `slot`; 0: slot is the root
    Slot* parent_slot;  // that holds `parent`
    uint32_t parent;    // the node with `node_slot`; 0: that is the root
  };

  [[nodiscard]] LpmControl::Top& top() const { return control_.top; }
  [[nodiscard]] bool is_element(uint32_t ref) const { return ref - 1 < elements_count_; }
  /// The node; `words` null where the window has none of that reference.
  [[nodiscard, gnu::always_inline]] Node node(uint32_t ref) const {
    const Class& c = classes_[LpmRef::node_class(ref)];
    const uint32_t number = LpmRef::number(ref);
    if (number >= c.capacity) [[unlikely]]
      return {};
    auto* words = reinterpret_cast<Slot*>(c.base + number * c.stride);
    return {words, ref, words[LpmNode::kPosition].load(std::memory_order_relaxed),
            LpmNode::bits(LpmRef::node_class(ref))};
  }

  // -- reading: lpm_search.h, lpm_walk.cc --
  template <uint32_t kWords>
  [[nodiscard]] uint32_t search_whole(const PrefixBits<kWords>& key) const;
  template <uint32_t kWords>
  [[nodiscard]] uint32_t search_within(const PrefixBits<kWords>& key, uint32_t limit) const;
  [[nodiscard]] static uint32_t longest_in_block(const Slot* block, uint32_t path);
  [[nodiscard]] uint32_t longest_above(uint32_t ref, uint32_t index) const;
  template <uint32_t kWords>
  [[nodiscard]] uint32_t longest_inside(const Step& step, const PrefixBits<kWords>& key, bool proven,
                                        uint32_t& common) const;
  static constexpr uint32_t kVanished = UINT32_MAX;  // what first_of() says instead of an element
  static constexpr uint32_t kWalks = 1000;
  [[nodiscard]] uint32_t first_of(uint32_t ref) const;
  /// For writers, in front of whom nothing vanishes.
  [[nodiscard]] uint32_t element_in(uint32_t ref) const {
    const uint32_t element = first_of(ref);
    return element != kVanished ? element : 0;
  }
  template <class Walk>
  static uint32_t repeated(const Walk& walk);
  [[nodiscard]] uint32_t next_once(const Bits& key, uint32_t length) const;
  [[nodiscard]] uint32_t first_within(const Node& node, uint32_t depth, uint32_t path) const;
  [[nodiscard]] uint32_t path_to(const Bits& key, uint32_t length, Step* steps, uint32_t& depth) const;

  // -- writing: lpm_write.cc --
  [[nodiscard]] Place locate(const Bits& key, uint32_t length) const;
  [[nodiscard]] Slot& slot_for(const Node& node, const Bits& key, uint32_t length) const;
  [[nodiscard]] Bits bits_of(uint32_t element) const { return {data(element), layout_.data_size}; }
  void fill(uint32_t element, const void* key, const void* value) const;
  Status insert(const Place& place, const Bits& prefix, uint32_t length, const void* key, const void* value);
  Status replace(const Place& place, const void* key, const void* value);
  [[nodiscard]] Node clear_node(uint32_t ref, uint32_t position) const;
  void put_into(const Node& node, uint32_t item) const;
  /// What a node holds beside `except`: how many things, and the last of them.
  struct Rest {
    uint32_t items, item;
  };
  [[nodiscard]] Rest rest(const Node& node, const Slot* except) const;

  // -- becoming wider: lpm_grow.cc --
  void widen(Slot* slot);
  bool widen_once(Slot* slot);
  bool split(Slot* slot);
  [[nodiscard]] bool is_adjacent(const Node& node, uint32_t child) const {
    return LpmRef::is_node(child) && this->node(child).position == node.end();
  }
  [[nodiscard]] uint32_t count_adjacent(const Node& node) const;
  [[nodiscard]] uint32_t count_items(const Node& node) const;

  // -- mutations: lpm_trie.cc --
  int lock(const Lease& lease);
  void unlock();
  std::byte* settle(const Lease& lease, uint32_t element);
  void repair();
  /// What a mutation does beside swapping a slot.
  struct Change {
    uint32_t count;                // elements afterwards
    uint32_t node = 0, items = 0;  // a wide node and its items afterwards
    uint32_t retire[2] = {};       // units that nobody can reach afterwards
    bool swallows = false;
  };
  void swap(Slot& slot, uint32_t after, const Change& change);
  void finish(bool repairing);
  void give_up() { pools_.give_back_taken(false); }
  [[nodiscard]] uint32_t count() const { return load(control_.writers.count); }

  struct Class {
    std::byte* base;
    uint64_t stride;
    uint32_t capacity;
    uint32_t bits;
    uint32_t last, above;  // words where the last levels begin, and those before
  };
  const LpmLayout layout_;
  const Segment& window_;
  const uint32_t max_entries_;
  const uint32_t value_size_;
  LpmControl& control_;
  std::byte* const elements_;  // of element 0, which there is not
  const uint64_t element_stride_;
  const uint32_t elements_count_;
  std::byte* const staging_;
  const ValuePlaces places_;
  const FieldGaps gaps_;
  Class classes_[LpmNode::kClasses + 1] = {};  // the last, which a reference may name as well, has no nodes
  LpmPools pools_;
};

}  // namespace skep
