// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace skep {

/// How the elements of an LRU map have been used: one byte for each, in an array of its own, so that a hit moves
/// nothing and writes at most that byte.
///
///     bit 0-1  uses since the hand passed, at most 3
///     bit 2    warm: it was used before (else cold)
///     bit 3    in a chain
///     bit 4    fresh: it came to its key otherwise than by an eviction, and no hand has passed since
///     bit 5-7  life: how often it was given to a new key or value, modulo 8
///
/// Written with plain stores by whoever uses, inserts or removes an element and by the hands of lru_clock.h; read by
/// the hands. A lost or late store costs the element a use or grants it one. Only who has an element in its hands
/// clears bit 3, and others store bytes with that bit alone, so that:
///
/// Invariants
///   U1 The byte of an element in a chain has bit 3 set. (Of others it may; the hands then look for it in vain.)
///   U2 Who holds the chain of an element sees another life than before its key or value was last stored. (A process
///      that was stopped between load and store of a use of it may undo that, once.)
class LruUses {
 public:
  static constexpr uint8_t kUses = 3;
  static constexpr uint8_t kWarm = 4;
  static constexpr uint8_t kInChain = 8;
  static constexpr uint8_t kClass = kWarm | kInChain;
  static constexpr uint8_t kFresh = 16;
  static constexpr uint8_t kUnused = kUses | kFresh;  // where all of these are 0, a hand chooses the element
  static constexpr uint8_t kLife = 0xe0;
  static constexpr uint8_t kLifeStep = 0x20;

  LruUses() = default;
  /// `bytes`: of element 1 on.
  explicit LruUses(std::atomic<uint8_t>* bytes) : bytes_(bytes - 1) {}

  /// Whether the map has such bytes.
  [[nodiscard]] bool any() const { return bytes_ != nullptr; }
  [[nodiscard]] uint8_t of(uint32_t element) const { return bytes_[element].load(std::memory_order_relaxed); }
  [[nodiscard]] bool in_chain(uint32_t element) const { return (of(element) & kInChain) != 0; }

  /// A use of an element that was found in a chain.
  void touch(uint32_t element) const {
    const uint8_t byte = of(element);
    if ((byte & kInChain) != 0 && (byte & kUses) != kUses) set(element, static_cast<uint8_t>(byte + 1));
  }
  /// The value of an element, whose chain the caller holds, is about to be changed in its place: a use.
  void renew(uint32_t element) const {
    const uint8_t byte = of(element);
    const auto used = static_cast<uint8_t>((byte & kUses) == kUses ? byte : byte + 1);
    set(element, static_cast<uint8_t>((used & ~kLife) | next_life(byte) | kInChain));
  }
  /// The element, in the caller's hands, is about to be linked under a new key.
  void begin(uint32_t element) const {
    const uint8_t byte = of(element);
    set(element, static_cast<uint8_t>((byte & kFresh) | next_life(byte) | kInChain));
  }
  /// The element, in the caller's hands, is about to replace `old`.
  void inherit(uint32_t element, uint32_t old) const {
    set(element, static_cast<uint8_t>((of(old) & ~kLife) | next_life(of(element)) | kInChain));
  }
  /// The element, in the caller's hands, is in no chain any more, and free to be used again anywhere.
  void forget(uint32_t element) const { set(element, static_cast<uint8_t>((of(element) & kLife) | kFresh)); }
  /// The same, of one that a hand has just passed.
  void forget_passed(uint32_t element) const { set(element, of(element) & kLife); }
  /// Whether its key and value are those that it had when its byte was `byte`.
  [[nodiscard]] bool lives_on(uint32_t element, uint8_t byte) const { return ((of(element) ^ byte) & kLife) == 0; }

  [[nodiscard]] const std::atomic<uint8_t>* address(uint32_t element) const { return bytes_ + element; }
  void set(uint32_t element, uint8_t byte) const { bytes_[element].store(byte, std::memory_order_relaxed); }

 private:
  static uint8_t next_life(uint8_t byte) { return static_cast<uint8_t>((byte & kLife) + kLifeStep); }

  std::atomic<uint8_t>* bytes_ = nullptr;
};

}  // namespace skep
