// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "machine/lease.h"
#include "machine/reader_section.h"

namespace skep {

/// For tests: nodes that a writer unlinks, waits for, poisons and uses again, under readers that check what they find.
///
/// The payload of a node is plain memory on purpose: if a grace period ended too early, ThreadSanitizer reports the
/// race and the checks see the poison.
class GraceStress {
 public:
  static constexpr uint32_t kPlaces = 8;
  static constexpr uint32_t kNodes = 64;
  static constexpr uint64_t kPoison = 0xdeadbeefdeadbeef;

  GraceStress() {
    for (uint32_t i = 0; i < kPlaces; ++i) publish(i, i, i + 1);
  }

  /// One section over all places; false if it saw a node that was reclaimed.
  template <class Section>
  bool read(Machine& machine) {
    const Section section(machine);
    for (int round = 0; round < 2; ++round) {
      for (uint32_t place = 0; place < kPlaces; ++place) {
        const Node& node = nodes_[places_[place].load(std::memory_order_acquire)];
        const uint64_t stamp = node.stamp;
        for (const uint64_t word : node.words) {
          if (word != stamp || stamp == kPoison) return false;
        }
        if (node.stamp != stamp) return false;
      }
    }
    return true;
  }

  /// Replaces the nodes of all places once, `turn` being different each time, with at most `wait` spent on each
  /// grace period by `until_elapsed(epoch)`.
  template <class UntilElapsed>
  void replace(Machine& machine, uint64_t turn, UntilElapsed until_elapsed) {
    std::array<uint32_t, kPlaces> unlinked;
    for (uint32_t place = 0; place < kPlaces; ++place) {
      const uint32_t fresh = static_cast<uint32_t>((turn * kPlaces + place) % kNodes);
      unlinked[place] = places_[place].load(std::memory_order_relaxed);
      publish(place, fresh, turn * kPlaces + place + 1);
    }
    until_elapsed(machine.begin_grace_period());
    for (const uint32_t node : unlinked) fill(nodes_[node], kPoison);
  }

 private:
  struct Node {
    uint64_t stamp;
    uint64_t words[6];
  };
  static void fill(Node& node, uint64_t stamp) {
    node.stamp = stamp;
    for (uint64_t& word : node.words) word = stamp;
  }
  void publish(uint32_t place, uint32_t node, uint64_t stamp) {
    fill(nodes_[node], stamp);
    places_[place].store(node, std::memory_order_release);
  }

  std::array<Node, kNodes> nodes_{};
  std::array<std::atomic<uint32_t>, kPlaces> places_{};
};

}  // namespace skep
