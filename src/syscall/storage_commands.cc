// SPDX-License-Identifier: Apache-2.0
#include "syscall/storage_commands.h"

#include <cstring>

#include "machine/lease.h"
#include "maps/storage_map.h"
#include "storage/storage_busy.h"
#include "syscall/bounce.h"
#include "syscall/map_access.h"

namespace skep {
namespace {

using Object = std::shared_ptr<const OpenObject>;

Result<Object> open_storage(Process& process, uint32_t map_fd) {
  Result<Object> object = process.descriptors.share(static_cast<int>(map_fd), ObjectKind::kMap);
  if (object && !(*object)->storage) return fail(EINVAL);  // another map took the number meanwhile
  return object;
}

StorageMap& map_of(const OpenObject& object) { return static_cast<StorageMap&>(*object.map); }

const OwnerSource& source_of(const OpenObject& object) { return *find_owner_source(map_of(object).owner_kind()); }

/// The descriptor that the client's key is.
Result<int> read_descriptor(const OpenObject& object, uint64_t key) {
  Bounce copy(object.key_size);
  if (copy.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(object, key, copy.data()); !read) return std::unexpected(read.error());
  int fd;
  std::memcpy(&fd, copy.data(), sizeof fd);
  return fd;
}

}  // namespace

bool is_storage(Process& process, uint32_t map_fd) { return open_storage(process, map_fd).has_value(); }

Answer storage_lookup_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags) {
  const Result<Object> found = open_storage(process, map_fd);
  if (!found) return std::unexpected(found.error());
  const OpenObject& object = **found;
  if (!object.readable) return fail(EPERM);
  if ((flags & BPF_F_CPU) != 0 || ((flags & BPF_F_LOCK) != 0 && !object.has_spin_lock)) return fail(EINVAL);
  const auto fd = read_descriptor(object, key);
  if (!fd) return std::unexpected(fd.error());
  Bounce copy(object.user_value_size);
  if (copy.data() == nullptr) return fail(ENOMEM);
  const auto identity = source_of(object).resolve(*fd);
  if (!identity) return std::unexpected(identity.error());
  const StorageBusy busy(map_of(object).owner_kind());
  if (const Status status = map_of(object).lookup_of(*identity, copy.data(), flags); !status)
    return std::unexpected(status.error());
  return write_user(value, copy.data(), object.user_value_size) ? Answer(0) : Answer(fail(EFAULT));
}

Answer storage_update_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags) {
  const Result<Object> found = open_storage(process, map_fd);
  if (!found) return std::unexpected(found.error());
  const OpenObject& object = **found;
  if (!may_write(object)) return fail(EPERM);
  if ((flags & BPF_F_LOCK) != 0 && !object.has_spin_lock) return fail(EINVAL);
  const auto fd = read_descriptor(object, key);
  if (!fd) return std::unexpected(fd.error());
  Bounce copy(object.user_value_size);
  if (copy.data() == nullptr) return fail(ENOMEM);
  if (!read_user(copy.data(), value, object.user_value_size)) return fail(EFAULT);
  const OwnerSource& source = source_of(object);
  const auto identity = source.resolve(*fd);
  if (!identity) return std::unexpected(identity.error());
  const StorageBusy busy(map_of(object).owner_kind());
  const auto attempt = [&]() -> Status {
    const Lease lease(process.machine);
    if (is_frozen(object)) return fail(EPERM);
    return map_of(object).update_of(
        lease, *identity, [&] { return source.trace(*fd); }, copy.data(), flags);
  };
  Status updated = attempt();
  if (!updated && to_int(updated.error()) == ENOMEM) {
    // What the owner has in maps whose last user died unseen does not count.
    process.instance->collect_dead();
    updated = attempt();
  }
  return updated ? Answer(0) : Answer(std::unexpected(updated.error()));
}

Answer storage_delete_elem(Process& process, uint32_t map_fd, uint64_t key) {
  const Result<Object> found = open_storage(process, map_fd);
  if (!found) return std::unexpected(found.error());
  const OpenObject& object = **found;
  if (!may_write(object)) return fail(EPERM);
  const auto fd = read_descriptor(object, key);
  if (!fd) return std::unexpected(fd.error());
  const auto identity = source_of(object).resolve(*fd);
  if (!identity) return std::unexpected(identity.error());
  const StorageBusy busy(map_of(object).owner_kind());
  const Lease lease(process.machine);
  if (is_frozen(object)) return fail(EPERM);
  const Status erased = map_of(object).erase_of(lease, *identity);
  return erased ? Answer(0) : Answer(std::unexpected(erased.error()));
}

Answer storage_take_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t flags) {
  const Result<Object> found = open_storage(process, map_fd);
  if (!found) return std::unexpected(found.error());
  const OpenObject& object = **found;
  if (!object.readable || !may_write(object)) return fail(EPERM);
  if (flags != 0 && !object.has_spin_lock) return fail(EINVAL);
  const auto fd = read_descriptor(object, key);
  return fd ? Answer(fail(kEnotsupp)) : Answer(std::unexpected(fd.error()));
}

}  // namespace skep
