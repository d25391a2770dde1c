// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>
#include <skep/map.h>
#include <skep/error.hpp>
#include <skep/instance.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

namespace skep {
inline namespace v0 {

enum class Access { kReadWrite = SKEP_READ_WRITE, kReadOnly = SKEP_READ_ONLY };

/// How to make a map.
struct MapOptions {
  std::string_view name = {};  // at most 15 characters of [A-Za-z0-9_.]
  uint32_t max_entries = 0;    // capacity, exactly
  uint32_t flags = 0;          // BPF_F_*; BPF_F_NO_PREALLOC: a hash reserves memory as it grows
  uint64_t extra = 0;          // BloomFilter: bits per value, 1 to 15 (0: 5); ResizableHashMap: elements expected
};

/// Keeps what find() returned valid, from construction to destruction, in one thread: a lease of one of the machine's
/// slots. Keep it short, never wait inside. For per-CPU maps the slot is a CPU, whose parts are this thread's alone.
class Guard {
 public:
  template <class SomeMap>
  explicit Guard(const SomeMap& map) {
    skep_guard_enter(map.handle(), &guard_);
  }
  ~Guard() { skep_guard_leave(&guard_); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  [[nodiscard]] const skep_guard* handle() const { return &guard_; }

 private:
  skep_guard guard_;
};

/// A value in place, or nothing; not to be used after its guard. Other threads, processes and programs may change the
/// value at any time, as in a BPF program: read and write members that are shared with std::atomic_ref.
template <class V>
class View {
 public:
  explicit View(V* value) : value_(value) {}
  explicit operator bool() const { return value_ != nullptr; }
  V& operator*() const { return *value_; }
  V* operator->() const { return value_; }
  operator View<const V>() const { return View<const V>(value_); }

 private:
  V* value_;
};

namespace detail {

/// What can stand in a map: bytes that mean the same in every process.
template <class V>
concept MapValue = std::is_trivially_copyable_v<V> && alignof(V) <= 8 && !std::is_pointer_v<V>;

/// Keys are compared as bytes, so equal keys must have equal bytes: no padding, no floating point.
template <class K>
concept MapKey = MapValue<K> && std::has_unique_object_representations_v<K>;

/// The key of maps that have none.
struct NoKey {};
template <class K>
inline constexpr uint32_t kKeyBytes = std::is_same_v<K, NoKey> ? 0 : sizeof(K);

/// The value of maps that have none.
struct NoValue {};
template <class V>
inline constexpr uint32_t kValueBytes = std::is_same_v<V, NoValue> ? 0 : sizeof(V);

/// The value whose bytes stand at `bytes`, which need not be aligned.
template <class T>
T from_bytes(const std::byte* bytes) {
  std::array<std::byte, sizeof(T)> copy;
  std::memcpy(copy.data(), bytes, sizeof(T));
  return std::bit_cast<T>(copy);
}

/// from_bytes() as an object, for walks.
template <class V>
struct DecodeValue {
  V operator()(const std::byte* bytes) const { return from_bytes<V>(bytes); }
};

inline std::string_view kind_name(uint32_t type) {
  switch (type) {
    case BPF_MAP_TYPE_HASH:
      return "a hash";
    case BPF_MAP_TYPE_ARRAY:
      return "an array";
    case BPF_MAP_TYPE_PERCPU_HASH:
      return "a per-CPU hash";
    case BPF_MAP_TYPE_PERCPU_ARRAY:
      return "a per-CPU array";
    case BPF_MAP_TYPE_LRU_HASH:
      return "an LRU hash";
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
      return "a per-CPU LRU hash";
    case BPF_MAP_TYPE_RHASH:
      return "a resizable hash";
    case BPF_MAP_TYPE_LPM_TRIE:
      return "a trie of prefixes";
    case BPF_MAP_TYPE_QUEUE:
      return "a queue";
    case BPF_MAP_TYPE_STACK:
      return "a stack";
    case BPF_MAP_TYPE_BLOOM_FILTER:
      return "a Bloom filter";
    case BPF_MAP_TYPE_RINGBUF:
      return "a ring buffer";
    case BPF_MAP_TYPE_TASK_STORAGE:
      return "storage of tasks";
    case BPF_MAP_TYPE_CGRP_STORAGE:
      return "storage of cgroups";
    case BPF_MAP_TYPE_SK_STORAGE:
      return "storage of sockets";
    case BPF_MAP_TYPE_INODE_STORAGE:
      return "storage of inodes";
    default:
      return "a map of another kind";
  }
}

inline std::string describe(uint32_t type, uint32_t key_size, uint32_t value_size) {
  return std::string(kind_name(type)) + " with keys of " + std::to_string(key_size) + " and values of " +
         std::to_string(value_size) + " bytes";
}

/// What all typed maps are underneath: an owned skep_map of a checked type, key size and value size. Move-only.
template <uint32_t kType, class K, class V>
class MapBase {
 public:
  static_assert(std::is_same_v<K, NoKey> || MapKey<K>,
                "a key must be trivially copyable, free of padding, not a pointer, aligned to 8 at most");
  static_assert(MapValue<V>, "a value must be trivially copyable, not a pointer, aligned to 8 at most");

  [[nodiscard]] uint32_t id() const { return attr_.id; }
  [[nodiscard]] std::string_view name() const { return attr_.name; }
  [[nodiscard]] uint32_t max_entries() const { return attr_.max_entries; }
  [[nodiscard]] skep_map* handle() const { return handle_.get(); }

  /// Gives the map a name in the instance's pins (`path` as bpftool has it: below /sys/fs/bpf); it then lives until the
  /// pin is removed. EEXIST, ENOENT, EPERM as BPF_OBJ_PIN.
  Expected<void> pin(const std::string& path) const {
    if (const int result = skep_map_pin(handle(), path.c_str()); result < 0) {
      return explained_failure(-result, "cannot pin map " + std::to_string(id()) + " at " + path);
    }
    return {};
  }

 protected:
  MapBase() = default;

  template <class Derived>
  static Expected<Derived> create_as(const Instance& instance, const MapOptions& options) {
    skep_map_attr attr = wanted();
    if (options.name.size() >= sizeof(attr.name)) {
      return std::unexpected(Error{EINVAL, "the name " + std::string(options.name) + " is longer than 15 characters"});
    }
    options.name.copy(attr.name, sizeof(attr.name) - 1);
    attr.max_entries = options.max_entries;
    attr.flags = options.flags;
    attr.extra = options.extra;
    skep_map* handle = nullptr;
    if (const int result = skep_map_create(instance.handle(), &attr, &handle); result < 0) {
      return explained_failure(-result, "cannot create " + describe(attr.type, attr.key_size, attr.value_size));
    }
    return adopt<Derived>(handle);
  }

  template <class Derived>
  static Expected<Derived> open_id_as(const Instance& instance, uint32_t id, Access access) {
    skep_map* handle = nullptr;
    if (const int result = skep_map_open_id(instance.handle(), id, static_cast<int>(access), &handle); result < 0) {
      return explained_failure(-result, "cannot open map " + std::to_string(id));
    }
    return adopt<Derived>(handle);
  }

  template <class Derived>
  static Expected<Derived> open_pin_as(const Instance& instance, const std::string& path, Access access) {
    skep_map* handle = nullptr;
    const int result = skep_map_open_pin(instance.handle(), path.c_str(), static_cast<int>(access), &handle);
    if (result < 0) return explained_failure(-result, "cannot open " + path);
    return adopt<Derived>(handle);
  }

  /// Update with existence flags: the errno `refused` means false.
  Expected<bool> update_if(const K& key, const void* value, uint64_t flags, int refused) {
    const int result = skep_map_update(handle(), &key, value, flags);
    if (result == 0) return true;
    if (result == -refused) return false;
    return failure(-result);
  }

  /// A result that has no "no".
  static Expected<void> check(int result) {
    if (result < 0) return failure(-result);
    return {};
  }
  /// A result whose ENOENT means false.
  static Expected<bool> check_presence(int result) {
    if (result == 0) return true;
    if (result == -ENOENT) return false;
    return failure(-result);
  }

  template <class Change>
  int modify(const K& key, Change& change) {
    const auto call = [](void* value, void* context) noexcept {
      (*static_cast<Change*>(context))(*static_cast<V*>(value));
    };
    return skep_map_modify(handle(), &key, call, const_cast<void*>(static_cast<const void*>(&change)));
  }

  View<V> find_in(const Guard& guard, const K& key) const {
    return View<V>(static_cast<V*>(skep_map_find(handle(), guard.handle(), &key)));
  }

 private:
  struct Closer {
    void operator()(skep_map* handle) const { skep_map_close(handle); }
  };

  static skep_map_attr wanted() {
    skep_map_attr attr = {};
    attr.size = sizeof(attr);
    attr.type = kType;
    attr.key_size = kKeyBytes<K>;
    attr.value_size = kValueBytes<V>;
    return attr;
  }

  /// Takes the handle over if the map is what the types say.
  template <class Derived>
  static Expected<Derived> adopt(skep_map* handle) {
    Derived map;
    map.handle_.reset(handle);
    map.attr_.size = sizeof(map.attr_);
    skep_map_describe(handle, &map.attr_);
    const skep_map_attr& is = map.attr_;
    if (is.type != kType || is.key_size != kKeyBytes<K> || is.value_size != kValueBytes<V>) {
      return std::unexpected(Error{EINVAL, "map " + std::to_string(is.id) + " (" + is.name + ") is " +
                                               describe(is.type, is.key_size, is.value_size) + ", not " +
                                               describe(kType, kKeyBytes<K>, kValueBytes<V>)});
    }
    return map;
  }

  std::unique_ptr<skep_map, Closer> handle_;
  skep_map_attr attr_ = {};
};

}  // namespace detail
}  // namespace v0
}  // namespace skep
