// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/map_base.hpp>

#include <optional>

namespace skep {
inline namespace v0 {

namespace detail {

/// What queues and stacks share; `Derived` is the public class.
template <class Derived, uint32_t kType, class V>
class QueueBase : public MapBase<kType, NoKey, V> {
  using Base = MapBase<kType, NoKey, V>;

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

  /// False: it is full, nothing was changed.
  Expected<bool> push(const V& value) {
    const int result = skep_map_update(this->handle(), nullptr, &value, BPF_ANY);
    if (result == 0) return true;
    if (result == -E2BIG) return false;
    return failure(-result);
  }
  /// Pushes in any case: where it is full, the oldest value goes.
  Expected<void> push_over(const V& value) {
    return Base::check(skep_map_update(this->handle(), nullptr, &value, BPF_EXIST));
  }
  /// Removes the next value and returns it; none: it is empty.
  Expected<std::optional<V>> pop() {
    alignas(8) std::byte value[sizeof(V)];
    const int result = skep_map_take(this->handle(), nullptr, value);
    if (result == 0) return from_bytes<V>(value);
    if (result == -ENOENT) return std::nullopt;
    return failure(-result);
  }
  /// A copy of what pop() would give; none: it is empty.
  [[nodiscard]] std::optional<V> peek() const {
    alignas(8) std::byte value[sizeof(V)];
    if (skep_map_get(this->handle(), nullptr, value, 0) != 0) return std::nullopt;
    return from_bytes<V>(value);
  }
};

}  // namespace detail

/// First in, first out (BPF_MAP_TYPE_QUEUE), for any number of producers and consumers in threads, processes and BPF
/// programs. Nothing is lost or given twice, also when processes are killed.
template <class V>
class Queue : public detail::QueueBase<Queue<V>, BPF_MAP_TYPE_QUEUE, V> {
 private:
  template <uint32_t, class, class>
  friend class detail::MapBase;
  Queue() = default;
};

/// Last in, first out (BPF_MAP_TYPE_STACK); otherwise as Queue.
template <class V>
class Stack : public detail::QueueBase<Stack<V>, BPF_MAP_TYPE_STACK, V> {
 private:
  template <uint32_t, class, class>
  friend class detail::MapBase;
  Stack() = default;
};

}  // namespace v0
}  // namespace skep
