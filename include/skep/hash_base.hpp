// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/entries.hpp>
#include <skep/map_base.hpp>

#include <algorithm>
#include <optional>
#include <span>

namespace skep {
inline namespace v0 {
namespace detail {

/// What the hash maps without parts per CPU share; `Derived` is the public class.
template <class Derived, uint32_t kType, class K, class V>
class HashBase : public MapBase<kType, K, V> {
  using Base = MapBase<kType, K, V>;

 public:
  static Expected<Derived> create(const Instance& instance, const MapOptions& options) {
    return Base::template create_as<Derived>(instance, options);
  }
  static Expected<Derived> open_id(const Instance& instance, uint32_t id, Access access = Access::kReadWrite) {
    return Base::template open_id_as<Derived>(instance, id, access);
  }
  static Expected<Derived> open_pin(const Instance& instance, const std::string& path,
                                    Access access = Access::kReadWrite) {
    return Base::template open_pin_as<Derived>(instance, path, access);
  }

  /// A copy of the value, never torn; none: no such key.
  [[nodiscard]] std::optional<V> get(const K& key) const {
    alignas(8) std::byte value[sizeof(V)];
    if (skep_map_get(this->handle(), &key, value, 0) != 0) return std::nullopt;
    return from_bytes<V>(value);
  }
  [[nodiscard]] bool contains(const K& key) const { return get(key).has_value(); }

  /// Looks keys up together, overlapping their cache misses: values[i] is written and found[i] set where keys[i]
  /// exists. Takes as many as the shortest span has; returns how many exist.
  size_t get_many(std::span<const K> keys, std::span<V> values, std::span<uint8_t> found) const {
    const size_t count = std::min({keys.size(), values.size(), found.size()});
    return static_cast<size_t>(
        skep_map_get_many(this->handle(), keys.data(), values.data(), found.data(), static_cast<uint32_t>(count)));
  }

  /// Adds a key. False: it exists, nothing was changed. E2BIG: the map is full.
  Expected<bool> insert(const K& key, const V& value) { return this->update_if(key, &value, BPF_NOEXIST, EEXIST); }
  /// Replaces the value of a key. False: there is no such key.
  Expected<bool> assign(const K& key, const V& value) { return this->update_if(key, &value, BPF_EXIST, ENOENT); }
  /// Adds or replaces. E2BIG: a new key, and the map is full.
  Expected<void> insert_or_assign(const K& key, const V& value) {
    return Base::check(skep_map_update(this->handle(), &key, &value, BPF_ANY));
  }

  /// Replaces a value by what `change(V&)` makes of a copy of it; no other update comes between, and readers see the
  /// old or the new value. False: no such key. `change` may run more than once, must not use the map and must not
  /// throw.
  template <class Change>
  Expected<bool> update(const K& key, Change&& change) {
    return Base::check_presence(this->modify(key, change));
  }
  /// update(), or insert() of `initial` where there is no such key.
  template <class Change>
  Expected<void> update_or_insert(const K& key, const V& initial, Change&& change) {
    for (;;) {
      const auto updated = update(key, change);
      if (!updated) return std::unexpected(updated.error());
      if (*updated) return {};
      const auto inserted = insert(key, initial);
      if (!inserted) return std::unexpected(inserted.error());
      if (*inserted) return {};
    }
  }

  /// Removes a key. False: there is no such key.
  Expected<bool> erase(const K& key) { return Base::check_presence(skep_map_erase(this->handle(), &key)); }
  /// Removes a key and returns the value it had; none: there was no such key.
  Expected<std::optional<V>> take(const K& key) {
    alignas(8) std::byte value[sizeof(V)];
    const int result = skep_map_take(this->handle(), &key, value);
    if (result == 0) return from_bytes<V>(value);
    if (result == -ENOENT) return std::nullopt;
    return failure(-result);
  }

  /// The value in place, valid while `guard` (made of this map) lives. Const: its readers may not notice that another
  /// update replaces it, and then keep reading the old value.
  [[nodiscard]] View<const V> find(const Guard& guard, const K& key) const { return this->find_in(guard, key); }
  /// Calls `visitor(const V&)` with the value in place, under a guard. False: there is no such key.
  template <class Visitor>
  bool visit(const K& key, Visitor&& visitor) const {
    const Guard guard(*this);
    const auto value = find(guard, key);
    if (value) visitor(*value);
    return static_cast<bool>(value);
  }

  /// A walk over copies of all elements: `for (const auto& [key, value] : map.entries())`.
  [[nodiscard]] auto entries() const { return Entries<K, V, DecodeValue<V>>(this->handle(), {}); }
};

}  // namespace detail
}  // namespace v0
}  // namespace skep
