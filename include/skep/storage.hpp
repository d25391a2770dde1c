// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/map_base.hpp>
#include <skep/owner.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

namespace skep {
inline namespace v0 {

/// What kind of owner a value has been found with.
enum class OwnerKind : uint32_t { kTask = 0, kCgroup = 1, kSocket = 2, kInode = 3, kObject = 4 };

/// An owner as a walk over a storage map meets it.
struct StorageOwner {
  OwnerKind kind;
  uint64_t id;  // task: inode of its pidfds; cgroup: id; socket: cookie; inode: its number; object: its reference

  /// Of an object; else one that names nothing.
  [[nodiscard]] OwnerReference reference() const { return {kind == OwnerKind::kObject ? id : 0}; }
};

namespace detail {

/// What the maps of local storage share; `Derived` is the public class. A value for each owner that was given one.
///
/// `who` is the owner: a descriptor (int) of the map's own kind of owner; an Owner; an OwnerReference. Writing attaches
/// an Owner that is not attached yet. Errors beside those named: EBADF or ENOTSOCK, a descriptor of something else;
/// ENOENT, an owner that is gone; ENOMEM, the owner's limit.
template <class Derived, uint32_t kType, class V>
class StorageBase : public MapBase<kType, int32_t, V> {
  using Base = MapBase<kType, int32_t, V>;

 public:
  static Expected<Derived> create(const Instance& instance, MapOptions options) {
    options.flags |= BPF_F_NO_PREALLOC;
    return Base::template create_as<Derived>(instance, options);
  }
  static Expected<Derived> open_id(const Instance& instance, uint32_t id, Access access = Access::kReadWrite) {
    return Base::template open_id_as<Derived>(instance, id, access);
  }
  static Expected<Derived> open_pin(const Instance& instance, const std::string& path,
                                    Access access = Access::kReadWrite) {
    return Base::template open_pin_as<Derived>(instance, path, access);
  }

  /// A copy of the value; none: the owner has none, or is gone.
  template <class Who>
  [[nodiscard]] Expected<std::optional<V>> get(const Who& who) const {
    alignas(8) std::byte value[sizeof(V)];
    const int result = copy(who, value);
    if (result == 0) return from_bytes<V>(value);
    if (result == -ENOENT) return std::nullopt;
    return failure(-result);
  }
  /// Gives the owner its first value. False: it has one, nothing was changed.
  template <class Who>
  Expected<bool> insert(Who&& who, const V& value) {
    return unless(put(who, value, BPF_NOEXIST), EEXIST);
  }
  /// Replaces the owner's value. False: it has none, or is gone.
  template <class Who>
  Expected<bool> assign(Who&& who, const V& value) {
    return unless(put(who, value, BPF_EXIST), ENOENT);
  }
  /// Gives or replaces.
  template <class Who>
  Expected<void> insert_or_assign(Who&& who, const V& value) {
    return Base::check(put(who, value, BPF_ANY));
  }
  /// Takes the owner's value away. False: it had none, or is gone.
  template <class Who>
  Expected<bool> erase(const Who& who) {
    return Base::check_presence(drop(who));
  }

  /// The value in place, valid while `guard` (made of this map) lives, as a program gets it; of an Owner or a
  /// reference. Writes no cache line. Not writable through a read-only handle.
  [[nodiscard]] View<V> find(const Guard& guard, OwnerReference who) const {
    return View<V>(static_cast<V*>(skep_storage_find(this->handle(), guard.handle(), who.value)));
  }
  [[nodiscard]] View<V> find(const Guard& guard, const Owner& who) const { return find(guard, who.reference()); }
  /// The same, made of `initial` where there is none.
  Expected<View<V>> find_or_insert(const Guard& guard, OwnerReference who, const V& initial = {}) {
    void* value = nullptr;
    const int result = skep_storage_find_or_make(this->handle(), guard.handle(), who.value, &initial, &value);
    if (result < 0) return failure(-result);
    return View<V>(static_cast<V*>(value));
  }
  Expected<View<V>> find_or_insert(const Guard& guard, Owner& who, const V& initial = {}) {
    if (const int result = who.try_attach(); result < 0) return failure(-result);
    return find_or_insert(guard, who.reference(), initial);
  }

  /// Calls `visit(const StorageOwner&, V&)` with every value in place, in no order; their number. Values that come or
  /// go meanwhile may be seen. A visit that throws ends the program.
  template <class Visit>
  Expected<uint64_t> for_each(Visit&& visit) const {
    const auto call = [](void* context, const skep_storage_owner* owner, void* value) noexcept {
      (*static_cast<std::remove_reference_t<Visit>*>(context))(
          StorageOwner{static_cast<OwnerKind>(owner->kind), owner->id}, *static_cast<V*>(value));
      return 0;
    };
    void* const context = const_cast<void*>(static_cast<const void*>(&visit));
    const int64_t result = skep_storage_for_each(this->handle(), call, context);
    if (result < 0) return failure(static_cast<int>(-result));
    return static_cast<uint64_t>(result);
  }

 private:
  /// True; false for the errno `refused`.
  static Expected<bool> unless(int result, int refused) {
    if (result == 0) return true;
    if (result == -refused) return false;
    return failure(-result);
  }

  int copy(int fd, void* value) const { return skep_storage_get_fd(this->handle(), fd, value, 0); }
  int copy(OwnerReference who, void* value) const { return skep_storage_get(this->handle(), who.value, value, 0); }
  int copy(const Owner& who, void* value) const { return copy(who.reference(), value); }

  int put(int fd, const V& value, uint64_t flags) { return skep_storage_update_fd(this->handle(), fd, &value, flags); }
  int put(OwnerReference who, const V& value, uint64_t flags) {
    return skep_storage_update(this->handle(), who.value, &value, flags);
  }
  int put(Owner& who, const V& value, uint64_t flags) {
    const int result = flags == BPF_EXIST ? 0 : who.try_attach();
    return result < 0 ? result : put(who.reference(), value, flags);
  }

  int drop(int fd) { return skep_storage_erase_fd(this->handle(), fd); }
  int drop(OwnerReference who) { return skep_storage_erase(this->handle(), who.value); }
  int drop(const Owner& who) { return drop(who.reference()); }
};

}  // namespace detail

/// A value for each task (BPF_MAP_TYPE_TASK_STORAGE): a thread of any process, by its pidfd, or `current_task`. It goes
/// when the thread ends.
template <class V>
class TaskStorage : public detail::StorageBase<TaskStorage<V>, BPF_MAP_TYPE_TASK_STORAGE, V> {
  template <uint32_t, class, class>
  friend class detail::MapBase;
  TaskStorage() = default;
};

/// A value for each cgroup (BPF_MAP_TYPE_CGRP_STORAGE), by a descriptor of its directory.
template <class V>
class CgroupStorage : public detail::StorageBase<CgroupStorage<V>, BPF_MAP_TYPE_CGRP_STORAGE, V> {
  template <uint32_t, class, class>
  friend class detail::MapBase;
  CgroupStorage() = default;
};

/// A value for each socket (BPF_MAP_TYPE_SK_STORAGE), by any descriptor of it. The values of one socket have a limit in
/// bytes, net.core.optmem_max (ENOMEM).
template <class V>
class SocketStorage : public detail::StorageBase<SocketStorage<V>, BPF_MAP_TYPE_SK_STORAGE, V> {
  template <uint32_t, class, class>
  friend class detail::MapBase;
  SocketStorage() = default;
};

/// A value for each inode (BPF_MAP_TYPE_INODE_STORAGE), by any descriptor.
template <class V>
class InodeStorage : public detail::StorageBase<InodeStorage<V>, BPF_MAP_TYPE_INODE_STORAGE, V> {
  template <uint32_t, class, class>
  friend class detail::MapBase;
  InodeStorage() = default;
};

/// A value for each object of an application that has one: a TaskStorage by another name, since objects may have values
/// in any map of local storage. Programs reach it by bpf_task_storage_get(&map, (void*)reference, ...).
template <class V>
using ObjectStorage = TaskStorage<V>;

}  // namespace v0
}  // namespace skep
