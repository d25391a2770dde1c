// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/entries.hpp>
#include <skep/map_base.hpp>

#include <cassert>
#include <optional>
#include <span>
#include <vector>

namespace skep {
inline namespace v0 {
namespace detail {

/// What the per-CPU kinds share: a value is one part per CPU, in the ABI at 8-byte rounded distances.
template <uint32_t kType, class K, class V>
class PerCpuBase : public MapBase<kType, K, V> {
  using Base = MapBase<kType, K, V>;

 public:
  /// Parts of a value: the CPUs of this host.
  [[nodiscard]] uint32_t cpus() const {
    return static_cast<uint32_t>(skep_map_value_bytes(this->handle()) / kDistance);
  }

  /// A copy of every CPU's part, each untorn; none: no such key.
  [[nodiscard]] std::optional<std::vector<V>> get(const K& key) const {
    std::vector<std::byte> bytes(skep_map_value_bytes(this->handle()));
    if (skep_map_get(this->handle(), &key, bytes.data(), 0) != 0) return std::nullopt;
    return Decode{cpus()}(bytes.data());
  }
  /// A copy of one CPU's part; none: no such key or CPU.
  [[nodiscard]] std::optional<V> get(const K& key, uint32_t cpu) const {
    alignas(8) std::byte value[sizeof(V)];
    if (skep_map_get(this->handle(), &key, value, one_cpu(cpu)) != 0) return std::nullopt;
    return from_bytes<V>(value);
  }

  /// The part of the guard's CPU, in place: this thread's alone while `guard` (made of this map) lives, so that plain
  /// reads and writes will do against everything but copies. Writable through a read-write handle only.
  [[nodiscard]] View<V> find(const Guard& guard, const K& key) { return this->find_in(guard, key); }
  /// Calls `visitor(V&)` with the part of the CPU that this thread runs on, under a guard. False: no such key.
  template <class Visitor>
  bool visit(const K& key, Visitor&& visitor) {
    const Guard guard(*this);
    const auto value = find(guard, key);
    if (value) visitor(*value);
    return static_cast<bool>(value);
  }

  /// A walk over copies of all elements: `for (const auto& [key, parts] : map.entries())`.
  [[nodiscard]] auto entries() const { return Entries<K, std::vector<V>, Decode>(this->handle(), Decode{cpus()}); }

 protected:
  static constexpr size_t kDistance = (sizeof(V) + 7) / 8 * 8;
  static uint64_t one_cpu(uint32_t cpu) { return uint64_t{cpu} << 32 | BPF_F_CPU; }

  /// The bytes of a value whose parts are `parts`, of which there must be cpus().
  std::vector<std::byte> encode(std::span<const V> parts) const {
    assert(parts.size() == cpus());
    std::vector<std::byte> bytes(skep_map_value_bytes(this->handle()));
    for (size_t cpu = 0; cpu < parts.size(); ++cpu) std::memcpy(bytes.data() + cpu * kDistance, &parts[cpu], sizeof(V));
    return bytes;
  }

 private:
  struct Decode {
    uint32_t cpus;
    std::vector<V> operator()(const std::byte* bytes) const {
      std::vector<V> parts;
      parts.reserve(cpus);
      for (uint32_t cpu = 0; cpu < cpus; ++cpu) parts.push_back(from_bytes<V>(bytes + cpu * kDistance));
      return parts;
    }
  };
};

}  // namespace detail
}  // namespace v0
}  // namespace skep
