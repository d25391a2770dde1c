// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/perf_event.h>

#include <cstring>
#include <vector>

#include "maps/map_test_support.h"
#include "maps/perf_event.h"

namespace skep::testing {

class PerfEventTest : public MapTest {
 protected:
  std::unique_ptr<PerfEvent> event(PerfEventSpec spec, uint64_t data_size, bool overwrites = false) {
    const int fd = make_file();
    EXPECT_TRUE(PerfEvent::initialise(fd, spec));
    PerfEvent::store_id(fd, 7);
    auto opened = PerfEvent::open(fd, machine());
    EXPECT_TRUE(opened) << last_error_sentence();
    if (!opened) return nullptr;
    if (data_size != 0) {
      EXPECT_EQ(map(**opened, data_size, overwrites), 0);
    }
    return *std::move(opened);
  }
  static int map(PerfEvent& event, uint64_t data_size, bool overwrites = false, bool mapped = false) {
    const Status status = event.map_ring(
        data_size, overwrites, [=] { return mapped; }, [] { return Status{}; });
    return status ? 0 : to_int(status.error());
  }
  int output(PerfEvent& event, const void* data, uint64_t size, uint32_t cpu = 0) {
    const Lease lease(machine(), Lease::Cpu{cpu});
    return event.output(lease, {static_cast<const std::byte*>(data), size}, {});
  }
};

/// Reads a ring as libbpf's perf_buffer does: from the mapped pages alone.
class PerfReader {
 public:
  explicit PerfReader(const PerfEvent& event) : page_(reinterpret_cast<perf_event_mmap_page*>(event.user_window())) {}

  struct Found {
    uint32_t type;
    std::vector<std::byte> body;  // behind the header
    [[nodiscard]] uint64_t word(size_t index) const {
      uint64_t value;
      std::memcpy(&value, body.data() + index * sizeof value, sizeof value);
      return value;
    }
  };
  /// Takes the next record; false: there is none.
  bool next(Found& found) {
    const uint64_t head = __atomic_load_n(&page_->data_head, __ATOMIC_ACQUIRE);
    const uint64_t tail = page_->data_tail;
    if (head == tail) return false;
    perf_event_header header;
    copy(&header, tail, sizeof header);
    EXPECT_GE(header.size, sizeof header);
    EXPECT_LE(tail + header.size, head);
    if (header.size < sizeof header || tail + header.size > head) return false;
    found.type = header.type;
    found.body.resize(header.size - sizeof header);
    copy(found.body.data(), tail + sizeof header, found.body.size());
    __atomic_store_n(&page_->data_tail, tail + header.size, __ATOMIC_RELEASE);
    return true;
  }
  /// Counts what is there: samples of `size` stamped bytes that verify, and what LOST records tell.
  void consume() {
    Found found;
    while (next(found)) {
      if (found.type == PERF_RECORD_LOST) {
        lost += found.word(1);
      } else {
        uint64_t stamp;
        std::memcpy(&stamp, found.body.data() + 4, sizeof stamp);
        for (size_t i = 12; i + 4 < found.body.size(); ++i) {
          EXPECT_EQ(found.body[i], static_cast<std::byte>(stamp * 31 + i)) << "stamp " << stamp;
        }
        EXPECT_GT(stamp, last) << "out of order";
        last = stamp;
        ++samples;
      }
    }
  }
  uint64_t samples = 0, lost = 0, last = 0;

 private:
  void copy(void* to, uint64_t position, uint64_t length) const {
    const auto* const data = reinterpret_cast<const std::byte*>(page_) + kPageSize;
    for (uint64_t i = 0; i < length; ++i)
      static_cast<std::byte*>(to)[i] = data[(position + i) & (page_->data_size - 1)];
  }
  perf_event_mmap_page* page_;
};

/// A sample of `size` bytes (with its length word a multiple of 8) that PerfReader::consume() verifies.
inline std::vector<std::byte> stamped(uint64_t stamp, size_t size) {
  std::vector<std::byte> bytes(size);
  std::memcpy(bytes.data(), &stamp, sizeof stamp);
  for (size_t i = sizeof stamp; i < size; ++i) bytes[i] = static_cast<std::byte>(stamp * 31 + i + 4);
  return bytes;
}

}  // namespace skep::testing
