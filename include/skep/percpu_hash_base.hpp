// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/percpu_base.hpp>

namespace skep {
inline namespace v0 {
namespace detail {

/// What the hash maps with parts per CPU share; `Derived` is the public class.
template <class Derived, uint32_t kType, class K, class V>
class PerCpuHashBase : public PerCpuBase<kType, K, V> {
  using Base = PerCpuBase<kType, K, V>;

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

  [[nodiscard]] bool contains(const K& key) const { return this->get(key, 0).has_value(); }

  /// Adds a key with all its parts; `parts` has cpus() of them. False: it exists. E2BIG: the map is full.
  Expected<bool> insert(const K& key, std::span<const V> parts) {
    return this->update_if(key, this->encode(parts).data(), BPF_NOEXIST, EEXIST);
  }
  /// Replaces all parts of a key. False: there is no such key.
  Expected<bool> assign(const K& key, std::span<const V> parts) {
    return this->update_if(key, this->encode(parts).data(), BPF_EXIST, ENOENT);
  }
  /// Adds or replaces all parts.
  Expected<void> insert_or_assign(const K& key, std::span<const V> parts) {
    return Base::check(skep_map_update(this->handle(), &key, this->encode(parts).data(), BPF_ANY));
  }
  /// Adds a key whose every part is `value`. False: it exists, nothing was changed.
  Expected<bool> insert_all(const K& key, const V& value) {
    return this->update_if(key, &value, BPF_NOEXIST | BPF_F_ALL_CPUS, EEXIST);
  }
  /// Replaces one CPU's part. False: there is no such key; ERANGE: no such CPU.
  Expected<bool> assign_one(const K& key, uint32_t cpu, const V& value) {
    return this->update_if(key, &value, BPF_EXIST | Base::one_cpu(cpu), ENOENT);
  }
  /// Replaces the part of the CPU that this thread runs on by what `change(V&)` makes of it. False: no such key.
  template <class Change>
  Expected<bool> update(const K& key, Change&& change) {
    return Base::check_presence(this->modify(key, change));
  }

  /// Removes a key. False: there is no such key.
  Expected<bool> erase(const K& key) { return Base::check_presence(skep_map_erase(this->handle(), &key)); }
};

}  // namespace detail
}  // namespace v0
}  // namespace skep
