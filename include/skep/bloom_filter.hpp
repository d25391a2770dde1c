// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/map_base.hpp>

namespace skep {
inline namespace v0 {

/// A set that only grows and may err on one side (BPF_MAP_TYPE_BLOOM_FILTER): a value that was added is always found,
/// one that was not rarely. MapOptions::max_entries: for how many values the rate holds; MapOptions::extra: bits per
/// value. Values are compared as bytes. Any thread may call anything; asking takes one cache line and no lock.
template <class V>
class BloomFilter : public detail::MapBase<BPF_MAP_TYPE_BLOOM_FILTER, detail::NoKey, V> {
  using Base = detail::MapBase<BPF_MAP_TYPE_BLOOM_FILTER, detail::NoKey, V>;
  static_assert(detail::MapKey<V>, "a value is compared as bytes: no padding, no floating point");

 public:
  static Expected<BloomFilter> create(const Instance& instance, const MapOptions& options) {
    return Base::template create_as<BloomFilter>(instance, options);
  }
  static Expected<BloomFilter> open_id(const Instance& instance, uint32_t id, Access access = Access::kReadWrite) {
    return Base::template open_id_as<BloomFilter>(instance, id, access);
  }
  static Expected<BloomFilter> open_pin(const Instance& instance, const std::string& path,
                                        Access access = Access::kReadWrite) {
    return Base::template open_pin_as<BloomFilter>(instance, path, access);
  }

  Expected<void> add(const V& value) { return Base::check(skep_map_update(this->handle(), nullptr, &value, BPF_ANY)); }
  /// False: the value was certainly not added.
  [[nodiscard]] bool may_contain(V value) const { return skep_map_get(this->handle(), nullptr, &value, 0) == 0; }

 private:
  friend Base;
  BloomFilter() = default;
};

}  // namespace v0
}  // namespace skep
