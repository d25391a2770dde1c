// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "maps/map.h"
#include "maps/redo_log.h"

namespace skep {

/// A reference as slots and lists have it: 0 nothing; below 2^31 an element, numbered from 1; else a node: three bits
/// of its class and 28 of its number.
struct LpmRef {
  static constexpr uint32_t kNode = 1U << 31;
  static constexpr uint32_t kNumberMask = (1U << 28) - 1;
  static bool is_node(uint32_t ref) { return (ref & kNode) != 0; }
  static bool is_element(uint32_t ref) { return ref != 0 && (ref & kNode) == 0; }
  static uint32_t node_class(uint32_t node) { return node >> 28 & 7; }
  static uint32_t number(uint32_t node) { return node & kNumberMask; }
  static uint32_t node(uint32_t node_class, uint32_t number) { return kNode | node_class << 28 | number; }
};

/// The kinds of nodes: class c decides 3 * (c + 1) bits.
///
///     [ block 0 ] [ 8 blocks ] ... [ 8^(c-1) blocks ] [ unused ]   8^c times [ block | 8 children ], a line of 64
///     bytes
///
/// A block is 8 words for the prefixes that end in three levels of the node: word 1 the one that ends where the block
/// begins, 2 and 3 those a bit longer, 4 to 7 those two bits longer. The last three levels stand with the children
/// below them, so that one line tells the child and, mostly, what matches if that does not. Word 0 of block 0 is the
/// position (number of bits before the node); in wider nodes word 0 of the second block of 8 words counts what the node
/// holds, and of the third the children that begin where it ends.
struct LpmNode {
  static constexpr uint32_t kClasses = 7;
  static constexpr uint32_t kStride = 3;
  static constexpr uint32_t kPosition = 0, kItems = 8, kAdjacent = 16;  // words
  static constexpr uint32_t bits(uint32_t node_class) { return kStride * (node_class + 1); }
  static constexpr uint32_t slots(uint32_t node_class) { return 1U << bits(node_class); }
  /// Blocks above level `level`, which has 8^level.
  static constexpr uint32_t block_base(uint32_t level) { return ((1U << (kStride * level)) - 1) / 7; }
  /// The word where the last levels begin: block_base() of a wide node's is odd, and they stand in whole lines.
  static constexpr uint32_t last(uint32_t node_class) { return node_class == 0 ? 0 : 8 * (block_base(node_class) + 1); }
  static constexpr uint32_t words(uint32_t node_class) { return last(node_class) + 2 * slots(node_class); }
  /// The first word of the block of a level whose prefixes begin with `path`, the bits of the levels before.
  static constexpr uint32_t block(uint32_t node_class, uint32_t level, uint32_t path) {
    return level == node_class ? last(node_class) + 16 * path : 8 * (block_base(level) + path);
  }
  static constexpr uint32_t child(uint32_t node_class, uint32_t index) {
    return last(node_class) + 16 * (index >> kStride) + 8 + (index & 7);
  }
  /// The word of the prefix that ends `depth` (below the node's bits) bits behind the position; `path`: those bits.
  static constexpr uint32_t prefix(uint32_t node_class, uint32_t depth, uint32_t path) {
    const uint32_t level = depth / kStride, within = depth % kStride;
    return block(node_class, level, path >> within) + (1U << within) + (path & ((1U << within) - 1));
  }
  static constexpr bool is_child(uint32_t node_class, uint32_t word) {
    return word >= last(node_class) && (word & 8) != 0;
  }
  /// Whether the word is for an element or a node, and not the first one of a block.
  static constexpr bool is_slot(uint32_t node_class, uint32_t word) {
    return word % 8 != 0 || is_child(node_class, word);
  }
};
static_assert(LpmNode::words(0) * 4 == 64);
static_assert(LpmNode::last(1) == 16 && LpmNode::kItems < 16 && LpmNode::last(2) % 16 == 0);
static_assert(!LpmNode::is_slot(1, LpmNode::kItems) && !LpmNode::is_slot(1, LpmNode::kAdjacent));

/// A run of units whose memory comes and goes together. Under the writers' lock.
struct LpmChunk {
  /// kMoving: its memory comes or goes; who finds it so takes over from a dead process.
  enum State : uint32_t { kAbsent = 0, kReady = 1, kMoving = 2 };
  std::atomic<uint32_t> state;
  std::atomic<uint32_t> free;  // units in the list, and those never used
  std::atomic<uint32_t> head;  // first free unit, number + 1
  std::atomic<uint32_t> used;  // units that were ever handed out since the chunk got its memory
};
static_assert(sizeof(LpmChunk) == 16);

/// What changes about one pool. Under the writers' lock.
struct LpmPoolState {
  std::atomic<uint32_t> hint;  // chunks before this one are ready and have nothing free
  std::atomic<uint32_t> end;   // chunks from here on never had memory
  std::atomic<uint32_t> idle;  // number + 1 of the wholly free chunk that is kept
  std::atomic<uint32_t> unused;
};

/// What the holder of the writers' lock is doing, for whoever takes the lock over from a dead one. A mutation takes
/// units, prepares them, and swaps the content of one slot (the COMMIT); then it retires what nobody can reach any
/// more.
struct LpmJournal {
  static constexpr uint32_t kTaken = 10;
  enum Step : uint32_t { kIdle = 0, kSwap = 1 };
  std::atomic<uint32_t> step;         // kSwap: all below is valid
  std::atomic<uint32_t> before;       // content of the slot
  std::atomic<uint32_t> after;        // its content once the mutation is committed
  std::atomic<uint32_t> count_after;  // elements in the trie then
  std::atomic<uint64_t> place;        // offset of the slot in the window
  std::atomic<uint32_t> node;         // wide node whose count of items changes; 0: none
  std::atomic<uint32_t> items_after;
  std::atomic<uint32_t> retire[2];      // units that go
  std::atomic<uint32_t> swallows;       // 1: the adjacent smallest children of `before` go too
  std::atomic<uint32_t> retired;        // how many of them have gone
  std::atomic<uint32_t> taken[kTaken];  // units on their way into the trie; set before they leave their chunk
  std::atomic<uint32_t> moving;         // retired unit on its way into its chunk
  std::atomic<uint32_t> moving_next;    // what followed it in the list
};

struct LpmControl {
  /// Readers look at this line; it changes when the top of the trie does, and when a value is replaced in place.
  struct alignas(64) Top {
    std::atomic<uint32_t> root;
    uint32_t unused[7];
    RedoRecord redo;
  } top;
  struct alignas(64) Writers {
    std::atomic<uint64_t> lock;           // holder_lock.h
    std::atomic<uint32_t> count;          // elements
    std::atomic<uint32_t> open;           // units retired since the last grace period began, a list
    std::atomic<uint32_t> open_count;     // how many, roughly
    std::atomic<uint32_t> waiting;        // units whose grace period has begun, a list
    std::atomic<uint32_t> waiting_epoch;  // which one
  } writers;
  alignas(64) LpmJournal journal;
  alignas(64) LpmPoolState pools[LpmNode::kClasses + 1];
};

/// Where everything in the private window of a trie is: a function of its spec alone.
///
///     header | LpmControl | LpmChunk[...] of each pool | staging of one element || elements | their links ||
///     nodes of class 0 | their links || class 1 ...
///
/// All before the first || has memory from creation on; the rest gets it chunk by chunk. An element is the key's data,
/// padded to whole words, its prefix length among the padding where that fits, and the value.
struct LpmLayout {
  static constexpr uint32_t kPools = LpmNode::kClasses + 1;
  static constexpr uint32_t kElements = 0;                     // pool of the elements; that of class c is c + 1
  static constexpr uint64_t kLargestArea = uint64_t{1} << 37;  // bytes of address space for one pool

  struct Pool {
    uint64_t units;   // offset of unit 0
    uint64_t links;   // offset of the u32 per unit by which lists are made
    uint64_t stride;  // bytes
    uint32_t capacity;
    uint32_t chunk_shift;
    uint32_t chunks;
    uint64_t table;  // offset of the LpmChunk array
  };

  static LpmLayout of(const MapSpec& spec);

  uint32_t data_size;      // bytes of a key's data
  uint32_t max_bits;       // largest prefix length
  uint32_t length_offset;  // of the prefix length within an element
  uint32_t value_offset;
  uint64_t staging;
  uint64_t reserved;  // bytes that have memory from creation on
  uint64_t size;
  Pool pools[kPools];
};

}  // namespace skep
