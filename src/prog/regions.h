// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "prog/decode.h"

namespace skep {

/// Bytes that a run may touch, and how.
struct Region {
  enum Right : uint8_t {
    kRead = 1,
    kWrite = 2,
    kAtomic = 4,   // read-modify-write operations
    kFields = 8,   // holds special fields of a value, which only helpers touch
    kMap = 16,     // no memory: the place of an inner map's MapBinding, which is its value in a register
    kSealed = 32,  // not even helpers touch its special fields
  };
  uint64_t start = 0;
  uint64_t length = 0;                  // bytes
  const MapBinding* binding = nullptr;  // of a map's value
  uint8_t rights = 0;
  bool live = false;  // while grants are collected
  [[nodiscard]] bool covers(uint64_t address, uint64_t size) const {
    return address - start < length && size <= length - (address - start);
  }
};

/// Everything that one run may touch, except the context.
///
/// Layout: three fixed places (stack, packet, the program's direct values) and a list of *grants*: values
///   that lookups found during this run and records that it reserved, newest last. The list is searched from its end.
/// Invariants:
///   1. A grant's memory stays mapped until the run's lease ends: it came from Map::find() under that lease.
///   2. A grant that some register or aligned stack word of the run still points into (one past its end included) is
///      never dropped.
/// Reclamation: when the list is full, grants that nothing points to are dropped, as a conservative collector would; if
///   most of it is alive, the list grows. So a loop of lookups costs a bounded list, and a program that keeps many
///   pointers keeps them all.
class Regions {
 public:
  Regions();

  /// Forgets all grants and takes the fixed places of a new run.
  void reset(const DecodedCode& code, Region stack);
  /// The values that another program names directly, besides: for a tail call.
  void add_direct_values(const DecodedCode& code);
  /// Memory that stays the program's for the rest of the run.
  void add_fixed(const Region& region) { direct_values_.push_back(region); }
  /// The stack grows and shrinks with the calls.
  void set_stack_length(uint64_t length) { stack_.length = length; }
  void set_packet(const Region& packet) { packet_ = packet; }

  /// The region that holds all of [address, address + size), size > 0; null when there is none.
  [[nodiscard]] const Region* find(uint64_t address, uint64_t size) const {
    if (stack_.covers(address, size)) return &stack_;
    for (size_t i = grants_.size(); i-- > 0;) {
      if (grants_[i].covers(address, size)) return &grants_[i];
    }
    return find_fixed(address, size);
  }

  /// Whether the newest grant is exactly this one already.
  [[nodiscard]] bool newest_is(const Region& region) const {
    return !grants_.empty() && grants_.back().start == region.start && grants_.back().length == region.length;
  }
  /// Takes back every grant that begins in [start, start + length).
  void revoke(uint64_t start, uint64_t length) {
    std::erase_if(grants_, [=](const Region& grant) { return grant.start - start < length; });
  }
  [[nodiscard]] bool full() const { return grants_.size() == limit_; }
  void add(const Region& region) { grants_.push_back(region); }
  /// Drops the grants that no word of `roots` points into, then makes room for at least as many again as are left.
  void collect(std::span<const std::span<const uint64_t>> roots);
  [[nodiscard]] size_t grants() const { return grants_.size(); }

 private:
  static constexpr size_t kFirstLimit = 64;
  [[nodiscard]] const Region* find_fixed(uint64_t address, uint64_t size) const;

  Region stack_;
  Region packet_;
  std::vector<Region> direct_values_;
  std::vector<Region> grants_;
  size_t limit_ = kFirstLimit;
};

/// The rights of a program on values of that map.
[[nodiscard]] uint8_t value_rights(const MapBinding& binding);

}  // namespace skep
