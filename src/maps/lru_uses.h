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
///     bit 4    has to go: a hand chose it, and it has been neither used nor given to another key since
///
/// Written with plain stores by whoever uses, inserts or removes an element and by the hands of lru_clock.h; read by
/// the hands. A lost or late store costs the element a use or grants it one. Only who has an element in its hands
/// clears bit 3, and others store bytes with that bit alone, so that:
///
/// Invariant
///   U1 The byte of an element in a chain has bit 3 set. (Of others it may; the hands then look for it in vain.)
class LruUses {
 public:
  static constexpr uint8_t kUses = 3;
  static constexpr uint8_t kWarm = 4;
  static constexpr uint8_t kInChain = 8;
  static constexpr uint8_t kClass = kWarm | kInChain;
  static constexpr uint8_t kChosen = 16;

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
    if ((byte & kInChain) == 0) return;
    if ((byte & kUses) != kUses) {
      set(element, static_cast<uint8_t>((byte & ~kChosen) + 1));
    } else if ((byte & kChosen) != 0) {
      set(element, static_cast<uint8_t>(byte & ~kChosen));
    }
  }
  /// The element, in the caller's hands, is about to be linked under a new key.
  void begin(uint32_t element) const { set(element, kInChain); }
  /// The element, in the caller's hands, is about to replace `old`.
  void inherit(uint32_t element, uint32_t old) const {
    set(element, static_cast<uint8_t>((of(old) | kInChain) & ~kChosen));
  }
  /// That it has to go, if its byte still is `byte`.
  [[nodiscard]] bool choose(uint32_t element, uint8_t byte) const {
    return bytes_[element].compare_exchange_strong(byte, byte | kChosen, std::memory_order_relaxed);
  }
  /// Whether it still has to go: a writer may have been stopped with the number in hand.
  [[nodiscard]] bool chosen(uint32_t element) const { return (of(element) & kChosen) != 0; }
  /// The element, in the caller's hands, is in no chain any more.
  void forget(uint32_t element) const { set(element, 0); }
  [[nodiscard]] const std::atomic<uint8_t>* address(uint32_t element) const { return bytes_ + element; }
  void set(uint32_t element, uint8_t byte) const { bytes_[element].store(byte, std::memory_order_relaxed); }

 private:
  std::atomic<uint8_t>* bytes_ = nullptr;
};

}  // namespace skep
