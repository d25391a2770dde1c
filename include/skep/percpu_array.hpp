// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/percpu_base.hpp>

namespace skep {
inline namespace v0 {

/// An array with one part of each value per CPU (BPF_MAP_TYPE_PERCPU_ARRAY): counters that CPUs do not fight over.
/// Any thread may call anything.
template <class V>
class PerCpuArray : public detail::PerCpuBase<BPF_MAP_TYPE_PERCPU_ARRAY, uint32_t, V> {
  using Base = detail::PerCpuBase<BPF_MAP_TYPE_PERCPU_ARRAY, uint32_t, V>;

 public:
  static Expected<PerCpuArray> create(const Instance& instance, const MapOptions& options) {
    return Base::template create_as<PerCpuArray>(instance, options);
  }
  static Expected<PerCpuArray> open_id(const Instance& instance, uint32_t id, Access access = Access::kReadWrite) {
    return Base::template open_id_as<PerCpuArray>(instance, id, access);
  }
  static Expected<PerCpuArray> open_pin(const Instance& instance, const std::string& path,
                                        Access access = Access::kReadWrite) {
    return Base::template open_pin_as<PerCpuArray>(instance, path, access);
  }

  [[nodiscard]] uint32_t size() const { return this->max_entries(); }

  /// Replaces all parts at once; `parts` has cpus() of them. E2BIG: no such index.
  Expected<void> assign(uint32_t index, std::span<const V> parts) {
    return Base::check(skep_map_update(this->handle(), &index, this->encode(parts).data(), BPF_ANY));
  }
  /// Gives every CPU's part the same value.
  Expected<void> assign_all(uint32_t index, const V& value) {
    return Base::check(skep_map_update(this->handle(), &index, &value, BPF_F_ALL_CPUS));
  }
  /// Replaces one CPU's part. ERANGE: no such CPU.
  Expected<void> assign_one(uint32_t index, uint32_t cpu, const V& value) {
    return Base::check(skep_map_update(this->handle(), &index, &value, Base::one_cpu(cpu)));
  }
  /// Replaces the part of the CPU that this thread runs on by what `change(V&)` makes of it. ENOENT: no such index.
  template <class Change>
  Expected<void> update(uint32_t index, Change&& change) {
    return Base::check(this->modify(index, change));
  }

 private:
  template <uint32_t, class, class>
  friend class detail::MapBase;
  PerCpuArray() = default;
};

}  // namespace v0
}  // namespace skep
