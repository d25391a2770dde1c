// SPDX-License-Identifier: Apache-2.0
// The commands on one element. The orders of checks are those of Linux 6.18; BPF_F_CPU and BPF_F_ALL_CPUS, which it
// does not have, come where later kernels check them.
#include "machine/lease.h"
#include "machine/reader_section.h"
#include "syscall/bounce.h"
#include "syscall/commands.h"
#include "syscall/map_access.h"

namespace skep {
namespace {

constexpr uint64_t kFlagBits = 0xffffffff;

std::unexpected<Errno> pass_on(Errno error) { return std::unexpected(error); }

}  // namespace

Result<uint64_t> one_cpu_value_size(const OpenObject& object, uint64_t flags) {
  if (!is_per_cpu(object.type) || ((flags & BPF_F_CPU) != 0 && (flags & BPF_F_ALL_CPUS) != 0)) return fail(EINVAL);
  if ((flags & BPF_F_CPU) != 0 && (flags >> 32) >= object.map->machine().cpus()) return fail(ERANGE);
  return object.map->spec().value_size;
}

Answer map_lookup_elem(Caller& caller) {
  const uint64_t flags = caller.attr.flags;
  if ((flags & kFlagBits & ~uint64_t{BPF_F_LOCK | BPF_F_CPU}) != 0 ||
      ((flags & BPF_F_CPU) == 0 && (flags & ~kFlagBits) != 0))
    return fail(EINVAL);
  const ReaderSection section(caller.machine());
  const Result<const OpenObject*> found = find_map(caller, caller.attr.map_fd);
  if (!found) return pass_on(found.error());
  const OpenObject& object = **found;
  if (!object.readable) return fail(EPERM);
  if ((flags & BPF_F_LOCK) != 0 && !object.has_spin_lock) return fail(EINVAL);
  const Result<uint64_t> size = client_value_size(object, flags);
  if (!size) return pass_on(size.error());

  Bounce key(object.key_size);
  Bounce value(*size);
  if (key.data() == nullptr || value.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(object, caller.attr.key, key.data()); !read) return pass_on(read.error());
  if (const Status status = object.map->lookup(key.data(), value.data(), flags); !status)
    return pass_on(status.error());
  if (!write_user(caller.attr.value, value.data(), *size)) return fail(EFAULT);
  return 0;
}

Answer map_update_elem(Caller& caller) {
  const uint64_t flags = caller.attr.flags;
  const ReaderSection section(caller.machine());
  const Result<const OpenObject*> found = find_map(caller, caller.attr.map_fd);
  if (!found) return pass_on(found.error());
  const OpenObject& object = **found;
  if (!may_write(object)) return fail(EPERM);
  if ((flags & BPF_F_LOCK) != 0 && !object.has_spin_lock) return fail(EINVAL);
  const bool per_cpu = is_per_cpu(object.type);
  const Result<uint64_t> size = per_cpu ? client_value_size(object, flags) : Result<uint64_t>(object.user_value_size);
  if (!size) return pass_on(size.error());

  Bounce key(object.key_size);
  Bounce value(*size);
  if (key.data() == nullptr || value.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(object, caller.attr.key, key.data()); !read) return pass_on(read.error());
  if (!read_user(value.data(), caller.attr.value, *size)) return fail(EFAULT);
  if ((flags & ~kFlagBits) != 0 && (flags & BPF_F_CPU) == 0) return fail(EINVAL);
  const Lease lease(caller.machine());
  if (is_frozen(object)) return fail(EPERM);
  if (const Status status = object.map->update(lease, key.data(), value.data(), flags); !status)
    return pass_on(status.error());
  return 0;
}

Answer map_delete_elem(Caller& caller) {
  const ReaderSection section(caller.machine());
  const Result<const OpenObject*> found = find_map(caller, caller.attr.map_fd);
  if (!found) return pass_on(found.error());
  const OpenObject& object = **found;
  if (!may_write(object)) return fail(EPERM);
  Bounce key(object.key_size);
  if (key.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(object, caller.attr.key, key.data()); !read) return pass_on(read.error());
  const Lease lease(caller.machine());
  if (is_frozen(object)) return fail(EPERM);
  if (const Status status = object.map->erase(lease, key.data()); !status) return pass_on(status.error());
  return 0;
}

Answer map_get_next_key(Caller& caller) {
  const ReaderSection section(caller.machine());
  const Result<const OpenObject*> found = find_map(caller, caller.attr.map_fd);
  if (!found) return pass_on(found.error());
  const OpenObject& object = **found;
  if (!object.readable) return fail(EPERM);
  Bounce key(object.key_size);
  Bounce next(object.key_size);
  if (key.data() == nullptr || next.data() == nullptr) return fail(ENOMEM);
  const std::byte* from = nullptr;
  if (caller.attr.key != 0) {
    if (const Status read = read_key(object, caller.attr.key, key.data()); !read) return pass_on(read.error());
    from = key.data();
  }
  if (const Status status = object.map->next_key(from, next.data()); !status) return pass_on(status.error());
  if (!write_user(caller.attr.next_key, next.data(), object.key_size)) return fail(EFAULT);
  return 0;
}

Answer map_lookup_and_delete_elem(Caller& caller) {
  const uint64_t flags = caller.attr.flags;
  if ((flags & ~uint64_t{BPF_F_LOCK}) != 0) return fail(EINVAL);
  const ReaderSection section(caller.machine());
  const Result<const OpenObject*> found = find_map(caller, caller.attr.map_fd);
  if (!found) return pass_on(found.error());
  const OpenObject& object = **found;
  if (!object.readable || !may_write(object)) return fail(EPERM);
  if (flags != 0 && !object.has_spin_lock) return fail(EINVAL);

  Bounce key(object.key_size);
  Bounce value(object.user_value_size);
  if (key.data() == nullptr || value.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(object, caller.attr.key, key.data()); !read) return pass_on(read.error());
  {
    const Lease lease(caller.machine());
    if (is_frozen(object)) return fail(EPERM);
    if (const Status status = object.map->take(lease, key.data(), value.data(), flags); !status)
      return pass_on(status.error());
  }
  if (!write_user(caller.attr.value, value.data(), object.user_value_size)) return fail(EFAULT);
  return 0;
}

}  // namespace skep
