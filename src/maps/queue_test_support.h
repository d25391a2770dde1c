// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "maps/map_test_support.h"

namespace skep::testing {

/// A QUEUE or STACK spoken to with numbers; values verify themselves.
class KeylessTest : public MapTest {
 protected:
  std::unique_ptr<Map> make_keyless(uint32_t type, uint32_t value_size, uint32_t max_entries) {
    return make(spec(type, 0, value_size, max_entries));
  }
  static std::vector<unsigned char> value_of(const Map& map, uint64_t stamp) {
    std::vector<unsigned char> value(std::max<size_t>(map.spec().value_size, 8));
    fill_verifiable(value, stamp);
    return value;
  }
  static int push(Map& map, const Lease& lease, uint64_t stamp, uint64_t flags = BPF_ANY) {
    return error_of(map.update(lease, nullptr, value_of(map, stamp).data(), flags));
  }
  /// The stamp that a buffer holds, or kTorn.
  static uint64_t stamp_of(const std::vector<unsigned char>& value, size_t size) {
    uint64_t stamp = 0;
    std::memcpy(&stamp, value.data(), std::min<size_t>(size, 8));
    return size < 8 || verify(value.data(), size) ? stamp : kTorn;
  }
  /// The stamp of what was popped, or the negative errno.
  static int64_t pop(Map& map, const Lease& lease) {
    std::vector<unsigned char> value(std::max<size_t>(map.spec().value_size, 8));
    const int error = error_of(map.take(lease, nullptr, value.data(), 0));
    return error != 0 ? -error : static_cast<int64_t>(stamp_of(value, map.spec().value_size));
  }
  static int64_t peek(const Map& map) {
    std::vector<unsigned char> value(std::max<size_t>(map.spec().value_size, 8));
    const int error = error_of(map.lookup(nullptr, value.data(), 0));
    return error != 0 ? -error : static_cast<int64_t>(stamp_of(value, map.spec().value_size));
  }

  static constexpr uint64_t kTorn = uint64_t{1} << 62;
};

}  // namespace skep::testing
