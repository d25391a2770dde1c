// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/entries.hpp>
#include <skep/map_base.hpp>

#include <algorithm>
#include <optional>
#include <span>

namespace skep {
inline namespace v0 {

/// An array in shared memory (BPF_MAP_TYPE_ARRAY): every index below size() exists, zeroed at first. Made with
/// BPF_F_MMAPABLE, other programs see the values by a plain mmap of the map's descriptor. Any thread may call anything.
template <class V>
class Array : public detail::MapBase<BPF_MAP_TYPE_ARRAY, uint32_t, V> {
  using Base = detail::MapBase<BPF_MAP_TYPE_ARRAY, uint32_t, V>;

 public:
  static Expected<Array> create(const Instance& instance, const MapOptions& options) {
    return Base::template create_as<Array>(instance, options);
  }
  static Expected<Array> open_id(const Instance& instance, uint32_t id, Access access = Access::kReadWrite) {
    return Base::template open_id_as<Array>(instance, id, access);
  }
  static Expected<Array> open_pin(const Instance& instance, const std::string& path,
                                  Access access = Access::kReadWrite) {
    return Base::template open_pin_as<Array>(instance, path, access);
  }

  [[nodiscard]] uint32_t size() const { return this->max_entries(); }

  /// A copy of the value, never torn by assign() and update(); none: no such index.
  [[nodiscard]] std::optional<V> get(uint32_t index) const {
    alignas(8) std::byte value[sizeof(V)];
    if (skep_map_get(this->handle(), &index, value, 0) != 0) return std::nullopt;
    return detail::from_bytes<V>(value);
  }
  /// Several values at once; see HashMap::get_many().
  size_t get_many(std::span<const uint32_t> indices, std::span<V> values, std::span<uint8_t> found) const {
    const size_t count = std::min({indices.size(), values.size(), found.size()});
    return static_cast<size_t>(
        skep_map_get_many(this->handle(), indices.data(), values.data(), found.data(), static_cast<uint32_t>(count)));
  }

  /// E2BIG: no such index.
  Expected<void> assign(uint32_t index, const V& value) {
    return Base::check(skep_map_update(this->handle(), &index, &value, BPF_ANY));
  }
  /// Replaces a value by what `change(V&)` makes of a copy of it; no other assign() or update() comes between. ENOENT:
  /// no such index. `change` may run more than once, must not use the map and must not throw.
  template <class Change>
  Expected<void> update(uint32_t index, Change&& change) {
    return Base::check(this->modify(index, change));
  }

  /// The value in place, valid while `guard` (made of this map) lives; writable through a read-write handle only.
  [[nodiscard]] View<V> find(const Guard& guard, uint32_t index) { return this->find_in(guard, index); }
  [[nodiscard]] View<const V> find(const Guard& guard, uint32_t index) const { return this->find_in(guard, index); }
  /// Calls `visitor(const V&)` with the value in place, under a guard. False: no such index.
  template <class Visitor>
  bool visit(uint32_t index, Visitor&& visitor) const {
    const Guard guard(*this);
    const auto value = find(guard, index);
    if (value) visitor(*value);
    return static_cast<bool>(value);
  }

  /// A walk over copies of all values, in order: `for (const auto& [index, value] : array.entries())`.
  [[nodiscard]] auto entries() const {
    return detail::Entries<uint32_t, V, detail::DecodeValue<V>>(this->handle(), {});
  }

 private:
  friend Base;
  Array() = default;
};

}  // namespace v0
}  // namespace skep
