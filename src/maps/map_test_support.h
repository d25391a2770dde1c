// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "machine/lease.h"
#include "machine/machine.h"
#include "maps/map.h"
#include "memory/test_directory.h"
#include "skep/abi.h"

namespace skep::testing {

/// A fresh instance directory with a machine, removed afterwards; makes maps as files without names.
class MapTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto machine = Machine::open(directory_.fd());
    ASSERT_TRUE(machine) << last_error_sentence();
    machine_ = *machine;
  }

  void TearDown() override {
    machine_.reset();
    for (const int fd : files_) close(fd);
  }

  int make_file() {
    files_.push_back(directory_.make_file());
    EXPECT_GE(files_.back(), 0);
    return files_.back();
  }
  [[nodiscard]] int last_file() const { return files_.back(); }

  static MapSpec spec(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t max_entries, uint32_t flags = 0) {
    MapSpec spec = {};
    spec.type = type;
    spec.key_size = key_size;
    spec.value_size = value_size;
    spec.max_entries = max_entries;
    spec.flags = flags;
    return spec;
  }

  Result<std::unique_ptr<Map>> create(const MapSpec& map_spec) {
    MapCreation creation;
    creation.spec = map_spec;
    return create_map(make_file(), creation, *machine_);
  }
  /// The map, or a failed test.
  std::unique_ptr<Map> make(const MapSpec& map_spec) {
    auto map = create(map_spec);
    if (!map) {
      ADD_FAILURE() << "create_map: " << to_int(map.error()) << " " << last_error_sentence();
      return nullptr;
    }
    return std::move(*map);
  }
  int create_error(const MapSpec& map_spec) {
    auto map = create(map_spec);
    return map ? 0 : to_int(map.error());
  }

  Machine& machine() { return *machine_; }

  TestDirectory directory_;
  std::shared_ptr<Machine> machine_;
  std::vector<int> files_;
};

/// 0 or the errno of a result.
template <class T>
int error_of(const Result<T>& result) {
  return result ? 0 : to_int(result.error());
}

/// Collects what a batch or walk delivers; refuses after `limit` elements.
struct CollectingSink final : BatchSink {
  CollectingSink(uint64_t key_bytes, uint64_t value_bytes) : key_size(key_bytes), value_size(value_bytes) {}
  bool put(const void* key_run, const void* value_run, uint32_t count) override {
    const auto* key_bytes = static_cast<const char*>(key_run);
    const auto* value_bytes = static_cast<const char*>(value_run);
    keys.append(key_bytes, count * key_size);
    values.append(value_bytes, count * value_size);
    elements += count;
    return elements <= limit;
  }
  uint64_t key_size, value_size;
  uint64_t limit = UINT64_MAX;
  uint64_t elements = 0;
  std::string keys, values;
};

/// A value that verifies itself: every byte follows from the first eight.
inline void fill_verifiable(std::vector<unsigned char>& value, uint64_t stamp) {
  std::memcpy(value.data(), &stamp, 8);
  for (size_t i = 8; i < value.size(); ++i) value[i] = static_cast<unsigned char>(stamp * (i | 1) >> 7);
}
inline bool verify(const unsigned char* value, size_t size) {
  uint64_t stamp;
  std::memcpy(&stamp, value, 8);
  if (stamp == 0) {  // the zeros of creation
    for (size_t i = 8; i < size; ++i) {
      if (value[i] != 0) return false;
    }
    return true;
  }
  for (size_t i = 8; i < size; ++i) {
    if (value[i] != static_cast<unsigned char>(stamp * (i | 1) >> 7)) return false;
  }
  return true;
}

}  // namespace skep::testing
