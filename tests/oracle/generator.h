// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "operation.h"

namespace skep::oracle {

/// What both sides' copies of one map have in common.
struct MapModel {
  uint32_t type = 0, key_size = 0, value_size = 0, max_entries = 0, flags = 0;
  bool locked_value = false;  // its BTF has a bpf_spin_lock
  bool open = false;
  [[nodiscard]] bool is_array() const;
  [[nodiscard]] bool is_per_cpu() const;
  /// Elements of bytes under keys, which can be walked and compared as a whole.
  [[nodiscard]] bool is_walked() const;
  /// Values are descriptors and the like; the operations here name none that exist.
  [[nodiscard]] bool of_objects() const;
};

/// Makes random operations over random maps: mostly sensible, often full, sometimes absurd. Most are over the four
/// basic kinds, the rest over one form of each other kind (kind_forms.h). Everything follows from the seed.
class Generator {
 public:
  Generator(uint64_t seed, uint32_t cpus) : random_(seed), cpus_(cpus) {}

  /// The next operation. When it creates a map that both sides then have, call created().
  Operation next();
  /// Tells which logical number the map created by the last operation got.
  void created(uint32_t number);
  void closed(uint32_t number) { maps_.at(number).open = false; }

  [[nodiscard]] const std::vector<MapModel>& maps() const { return maps_; }
  [[nodiscard]] std::vector<uint32_t> open_maps() const;
  [[nodiscard]] uint32_t user_value_size(const MapModel& map) const;
  /// True in one of `n` cases.
  bool one_in(uint32_t n) { return random_() % n == 0; }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }

 private:
  Operation create();
  Operation create_other();
  Operation element(uint32_t number);
  Operation batch(uint32_t number);
  Operation info(uint32_t number);
  Operation freeze(uint32_t number);
  Operation nonsense();
  void disturb(Operation& operation, unsigned used_size);
  std::vector<uint8_t> key_of(const MapModel& map);
  std::vector<uint8_t> bytes(size_t size);
  uint64_t element_flags(const MapModel& map);
  template <class T>
  T pick(std::initializer_list<T> choices) {
    return *(choices.begin() + random_() % choices.size());
  }

  std::mt19937_64 random_;
  uint32_t cpus_;
  std::vector<MapModel> maps_;
  MapModel pending_;
};

}  // namespace skep::oracle
