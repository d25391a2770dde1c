// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <vector>

#include "maps/map_test_support.h"
#include "maps/ringbuf_map.h"

namespace skep::testing {

class RingbufTest : public MapTest {
 protected:
  std::unique_ptr<RingbufMap> ring(uint32_t size, uint32_t flags = 0) {
    std::unique_ptr<Map> map = make(spec(BPF_MAP_TYPE_RINGBUF, 0, 0, size, flags));
    return std::unique_ptr<RingbufMap>(static_cast<RingbufMap*>(map.release()));
  }
};

/// Reads a ring as libbpf's ring_buffer does: from the mapped pages alone.
class RingbufReader {
 public:
  explicit RingbufReader(const RingbufArea& area) : area_(area) {}

  /// Calls `visit(data, size)` for each committed record up to the first busy one; how many there were.
  template <class Visit>
  uint64_t consume(const Visit& visit) {
    uint64_t records = 0;
    uint64_t position = area_.consumer().load(std::memory_order_acquire);
    const uint64_t producer = area_.producer().load(std::memory_order_acquire);
    while (position < producer) {
      const uint32_t state = area_.state(position).load(std::memory_order_acquire);
      if ((state & ringbuf::kBusy) != 0) break;
      const uint32_t size = state & ringbuf::kLengthMask;
      if ((state & ringbuf::kDiscard) == 0) {
        visit(area_.data(position), size);
        ++records;
      }
      position += ringbuf::footprint(size);
      area_.consumer().store(position, std::memory_order_release);
    }
    return records;
  }
  uint64_t consume() {
    return consume([](const std::byte*, uint32_t) {});
  }

 private:
  RingbufArea area_;
};

/// A record that verifies itself and says who made it and as which one.
struct StampedRecord {
  uint32_t producer;
  uint32_t length;  // bytes, of which the rest follow from `stamp`
  uint64_t stamp;

  static void write(std::byte* to, uint32_t producer, uint64_t stamp, uint32_t length) {
    const StampedRecord head = {producer, length, stamp};
    std::memcpy(to, &head, sizeof head);
    for (uint32_t i = sizeof head; i < length; ++i) to[i] = static_cast<std::byte>(stamp * 31 + i);
  }
  static bool read(const std::byte* from, uint32_t length, StampedRecord& head) {
    if (length < sizeof head) return false;
    std::memcpy(&head, from, sizeof head);
    for (uint32_t i = sizeof head; i < length; ++i) {
      if (from[i] != static_cast<std::byte>(head.stamp * 31 + i)) return false;
    }
    return head.length == length;
  }
};

}  // namespace skep::testing
