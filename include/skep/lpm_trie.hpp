// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/entries.hpp>
#include <skep/map_base.hpp>

#include <optional>

namespace skep {
inline namespace v0 {

/// The first `length` bits of an address whose bytes are in network order, such as in_addr or std::array<uint8_t, 16>.
template <class Address>
struct Prefix {
  uint32_t length;  // bits, at most 8 * sizeof(Address)
  Address address;
};

/// Values by prefixes of addresses (BPF_MAP_TYPE_LPM_TRIE). Lookups take the longest prefix that matches, updates
/// exactly the one they name. Readers wait for nobody; any thread may call anything. Address: 1 to 256 bytes in network
/// order.
template <class Address, class V>
class LpmTrie : public detail::MapBase<BPF_MAP_TYPE_LPM_TRIE, Prefix<Address>, V> {
  using Base = detail::MapBase<BPF_MAP_TYPE_LPM_TRIE, Prefix<Address>, V>;
  static_assert(sizeof(Prefix<Address>) == 4 + sizeof(Address),
                "an address must have no more alignment than its length");

 public:
  static constexpr uint32_t kWhole = 8 * sizeof(Address);  // the length of a prefix that is one address

  /// MapOptions::flags must have BPF_F_NO_PREALLOC, as for bpf(2).
  static Expected<LpmTrie> create(const Instance& instance, const MapOptions& options) {
    return Base::template create_as<LpmTrie>(instance, options);
  }
  static Expected<LpmTrie> open_id(const Instance& instance, uint32_t id, Access access = Access::kReadWrite) {
    return Base::template open_id_as<LpmTrie>(instance, id, access);
  }
  static Expected<LpmTrie> open_pin(const Instance& instance, const std::string& path,
                                    Access access = Access::kReadWrite) {
    return Base::template open_pin_as<LpmTrie>(instance, path, access);
  }

  /// A copy of the value of the longest prefix that the address has; none: it has none of them.
  [[nodiscard]] std::optional<V> get(const Address& address) const { return get(Prefix<Address>{kWhole, address}); }
  /// The same among the prefixes that are no longer than this one.
  [[nodiscard]] std::optional<V> get(const Prefix<Address>& prefix) const {
    alignas(8) std::byte value[sizeof(V)];
    if (skep_map_get(this->handle(), &prefix, value, 0) != 0) return std::nullopt;
    return detail::from_bytes<V>(value);
  }

  /// Adds a prefix. False: it exists, nothing was changed. ENOSPC: the map is full; EINVAL: longer than an address.
  Expected<bool> insert(const Prefix<Address>& prefix, const V& value) {
    return this->update_if(prefix, &value, BPF_NOEXIST, EEXIST);
  }
  /// Replaces the value of a prefix. False: there is no such prefix.
  Expected<bool> assign(const Prefix<Address>& prefix, const V& value) {
    return this->update_if(prefix, &value, BPF_EXIST, ENOENT);
  }
  /// Adds or replaces. ENOSPC: a new prefix, and the map is full.
  Expected<void> insert_or_assign(const Prefix<Address>& prefix, const V& value) {
    return Base::check(skep_map_update(this->handle(), &prefix, &value, BPF_ANY));
  }
  /// Replaces the value of a prefix by what `change(V&)` makes of a copy of it; see HashMap::update(). False: there is
  /// no such prefix.
  template <class Change>
  Expected<bool> update(const Prefix<Address>& prefix, Change&& change) {
    return Base::check_presence(this->modify(prefix, change));
  }
  /// Removes exactly this prefix. False: there is no such one.
  Expected<bool> erase(const Prefix<Address>& prefix) {
    return Base::check_presence(skep_map_erase(this->handle(), &prefix));
  }

  /// The value of the longest prefix in place, valid while `guard` (made of this map) lives.
  [[nodiscard]] View<const V> find(const Guard& guard, const Address& address) const {
    return this->find_in(guard, {kWhole, address});
  }
  /// Calls `visitor(const V&)` with the value in place, under a guard. False: no prefix matches.
  template <class Visitor>
  bool visit(const Address& address, Visitor&& visitor) const {
    const Guard guard(*this);
    const auto value = find(guard, address);
    if (value) visitor(*value);
    return static_cast<bool>(value);
  }

  /// A walk over copies of all elements, the more specific first: `for (const auto& [prefix, value] : trie.entries())`.
  /// It begins anew, and so meets elements twice, when the prefix that it stands at is erased meanwhile.
  [[nodiscard]] auto entries() const {
    return detail::Entries<Prefix<Address>, V, detail::DecodeValue<V>>(this->handle(), {});
  }

 private:
  friend Base;
  LpmTrie() = default;
};

}  // namespace v0
}  // namespace skep
