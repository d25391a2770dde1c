// SPDX-License-Identifier: Apache-2.0
// Local storage: by descriptors, and of the application's own objects.
#include <skep/abi.h>

#include <cerrno>

#include "capi/handles.h"
#include "machine/lease.h"
#include "machine/reader_section.h"
#include "storage/current_task.h"
#include "storage/object_owner.h"

namespace skep {
namespace {

/// Whom a descriptor stands for; EINVAL: the map is none of local storage.
Result<OwnerIdentity> resolve(const skep_map* map, int fd) {
  if (map->storage == nullptr) return fail(EINVAL);
  return find_owner_source(map->storage->owner_kind())->resolve(fd);
}

/// The calling thread in a map of tasks.
Owner current_task(StorageMap& map, const Lease& lease, bool make) {
  if (map.owner_kind() != OwnerKind::kTask) return {};
  const auto task = find_current_task(lease, map.owners(), make);
  return task ? *task : Owner{};
}

[[gnu::always_inline]] inline Owner owner_of(StorageMap& map, const Lease& lease, uint64_t owner, bool make) {
  if (owner == SKEP_CURRENT_TASK) return current_task(map, lease, make);
  return ObjectReference::find(map.owners(), owner);
}

/// The owners of a handle's instance.
Result<Owners*> owners_of(skep_instance* instance) {
  auto* known = instance->owners.load(std::memory_order_acquire);  // pairs with the exchange below
  if (known == nullptr) [[unlikely]] {
    auto opened = Owners::open(instance->instance->machine());
    if (!opened) return std::unexpected(opened.error());
    auto mine = std::make_unique<std::shared_ptr<Owners>>(std::move(*opened));
    if (instance->owners.compare_exchange_strong(known, mine.get(), std::memory_order_acq_rel)) known = mine.release();
  }
  return known->get();
}

}  // namespace
}  // namespace skep

using skep::guarded;

int skep_storage_get_fd(const skep_map* map, int fd, void* value, uint64_t flags) {
  return guarded([&] {
    const auto identity = skep::resolve(map, fd);
    if (!identity) return -skep::to_int(identity.error());
    return skep::to_code(map->storage->lookup_of(*identity, value, flags));
  });
}

int skep_storage_update_fd(skep_map* map, int fd, const void* value, uint64_t flags) {
  if (const int error = skep::write_error(map); error != 0) return error;
  return guarded([&] {
    const auto identity = skep::resolve(map, fd);
    if (!identity) return -skep::to_int(identity.error());
    const skep::OwnerSource& source = *skep::find_owner_source(map->storage->owner_kind());
    const skep::Lease lease(map->map->machine());
    return skep::to_code(map->storage->update_of(
        lease, *identity, [&] { return source.trace(fd); }, value, flags));
  });
}

int skep_storage_erase_fd(skep_map* map, int fd) {
  if (const int error = skep::write_error(map); error != 0) return error;
  return guarded([&] {
    const auto identity = skep::resolve(map, fd);
    if (!identity) return -skep::to_int(identity.error());
    const skep::Lease lease(map->map->machine());
    return skep::to_code(map->storage->erase_of(lease, *identity));
  });
}

int skep_owner_make(skep_instance* instance, uint64_t* reference) {
  return guarded([&] {
    const auto owners = skep::owners_of(instance);
    if (!owners) return -skep::to_int(owners.error());
    const skep::Lease lease((*owners)->machine());
    constexpr uint32_t kSwept = 2;  // for each new one
    (*owners)->sweep(lease, kSwept, skep::is_gone);
    const auto made =
        (*owners)->make(lease, {.kind = skep::OwnerKind::kObject, .words = {0, lease.process().value, 0}});
    if (!made) return -skep::to_int(made.error());
    *reference = skep::ObjectReference::to(made->number);
    return 0;
  });
}

int skep_owner_destroy(skep_instance* instance, uint64_t reference) {
  return guarded([&] {
    const auto owners = skep::owners_of(instance);
    if (!owners) return -skep::to_int(owners.error());
    const skep::Lease lease((*owners)->machine());
    const skep::Owner owner = skep::ObjectReference::find(**owners, reference);
    if (!owner || owner.record->words[1] != lease.process().value) return 0;  // gone, or the parent's
    return skep::to_code((*owners)->destroy(lease, owner.number));
  });
}

int skep_storage_get(const skep_map* map, uint64_t owner, void* value, uint64_t flags) {
  if (map->storage == nullptr) return -EINVAL;
  skep::StorageMap& storage = *map->storage;
  return guarded([&] {
    if (owner == SKEP_CURRENT_TASK || !storage.has_joined()) {
      const skep::Lease lease(storage.machine());
      if (const auto joined = storage.join(lease); !joined) return skep::to_code(joined);
      return skep::to_code(storage.lookup(skep::owner_of(storage, lease, owner, false), value, flags));
    }
    const skep::ReaderSection section(storage.machine());
    return skep::to_code(storage.lookup(skep::ObjectReference::find(storage.owners(), owner), value, flags));
  });
}

int skep_storage_update(skep_map* map, uint64_t owner, const void* value, uint64_t flags) {
  if (map->storage == nullptr) return -EINVAL;
  if (const int error = skep::write_error(map); error != 0) return error;
  return guarded([&] {
    const skep::Lease lease(map->map->machine());
    const skep::Owner who = skep::owner_of(*map->storage, lease, owner, true);
    return who ? skep::to_code(map->storage->update(lease, who, value, flags)) : -ENOENT;
  });
}

int skep_storage_erase(skep_map* map, uint64_t owner) {
  if (map->storage == nullptr) return -EINVAL;
  if (const int error = skep::write_error(map); error != 0) return error;
  return guarded([&] {
    const skep::Lease lease(map->map->machine());
    const skep::Owner who = skep::owner_of(*map->storage, lease, owner, false);
    return who ? skep::to_code(map->storage->erase(lease, who)) : -ENOENT;
  });
}

void* skep_storage_find(const skep_map* map, const skep_guard* guard, uint64_t owner) {
  skep::StorageMap* const storage = map->storage;
  if (storage == nullptr) return nullptr;
  const auto& lease = *reinterpret_cast<const skep::Lease*>(guard);
  const skep::Owner who = skep::owner_of(*storage, lease, owner, false);
  return who ? storage->get(lease, who) : nullptr;
}

int skep_storage_find_or_make(skep_map* map, const skep_guard* guard, uint64_t owner, const void* initial,
                              void** value) {
  if (map->storage == nullptr) return -EINVAL;
  const auto& lease = *reinterpret_cast<const skep::Lease*>(guard);
  return guarded([&] {
    const skep::Owner who = skep::owner_of(*map->storage, lease, owner, true);
    if (!who) return -ENOENT;
    *value = map->storage->get(lease, who);
    if (*value != nullptr) return 0;
    if (const int error = skep::write_error(map); error != 0) return error;
    *value = map->storage->get_or_make(lease, who, initial);
    return *value != nullptr ? 0 : -ENOMEM;
  });
}

int64_t skep_storage_for_each(const skep_map* map,
                              int (*visit)(void* context, const skep_storage_owner* owner, void* value),
                              void* context) {
  if (map->storage == nullptr) return -EINVAL;
  return guarded([&] {
    const uint64_t visited = map->storage->for_each_owner([&](const skep::Owner& owner, void* value) {
      const bool object = owner.record->kind == skep::OwnerKind::kObject;
      const skep_storage_owner who = {.kind = static_cast<uint32_t>(owner.record->kind),
                                      .reserved = 0,
                                      .id = object ? skep::ObjectReference::to(owner.number) : owner.record->words[0]};
      return visit(context, &who, value) == 0 ? skep::Visit::kContinue : skep::Visit::kStop;
    });
    return static_cast<int64_t>(visited);
  });
}
