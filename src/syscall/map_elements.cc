// SPDX-License-Identifier: Apache-2.0
// The commands on one element. The orders of checks are those of Linux 6.18; BPF_F_CPU and BPF_F_ALL_CPUS, which it
// does not have, come where later kernels check them.
#include "machine/lease.h"
#include "machine/reader_section.h"
#include "syscall/bounce.h"
#include "syscall/commands.h"
#include "syscall/map_access.h"
#include "syscall/reference_commands.h"
#include "syscall/storage_commands.h"

namespace skep {
namespace {

constexpr uint64_t kFlagBits = 0xffffffff;

std::unexpected<Errno> pass_on(Errno error) { return std::unexpected(error); }

/// The size of the value in the client's buffer under BPF_F_CPU or BPF_F_ALL_CPUS: one CPU's.
/// EINVAL: the map is not per-CPU, both flags; ERANGE: no such CPU.
Result<uint64_t> one_cpu_value_size(const OpenObject& object, uint64_t flags) {
  if (!is_per_cpu(object.type) || ((flags & BPF_F_CPU) != 0 && (flags & BPF_F_ALL_CPUS) != 0)) return fail(EINVAL);
  if ((flags & BPF_F_CPU) != 0 && (flags >> 32) >= object.map->machine().cpus()) return fail(ERANGE);
  return object.map->spec().value_size;
}

/// The lookup of a map without keys. That of a BLOOM_FILTER asks about the value in the client's buffer.
[[gnu::noinline]] Answer lookup_keyless(const OpenObject& object, uint64_t key, uint64_t value, uint64_t flags) {
  if (key != 0) return fail(EINVAL);
  const bool asks = object.type == BPF_MAP_TYPE_BLOOM_FILTER;
  Bounce value_copy(object.user_value_size);
  if (value_copy.data() == nullptr) return fail(ENOMEM);
  if (asks && !read_user(value_copy.data(), value, object.user_value_size)) return fail(EFAULT);
  if (const Status status = object.map->lookup(nullptr, value_copy.data(), flags); !status)
    return pass_on(status.error());
  if (!asks && !write_user(value, value_copy.data(), object.user_value_size)) return fail(EFAULT);
  return 0;
}

[[gnu::always_inline]] inline Answer lookup_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value,
                                                 uint64_t flags) {
  if ((flags & kFlagBits & ~uint64_t{BPF_F_LOCK | BPF_F_CPU}) != 0 ||
      ((flags & BPF_F_CPU) == 0 && (flags & ~kFlagBits) != 0))
    return fail(EINVAL);
  const ReaderSection section(process.machine);
  Errno error;
  const OpenObject* const found = find_map(process, map_fd, error);
  if (found == nullptr) [[unlikely]]
    return pass_on(error);
  const OpenObject& object = *found;
  if (!object.readable) return fail(EPERM);
  if ((flags & BPF_F_LOCK) != 0 && !object.has_spin_lock) return fail(EINVAL);
  uint64_t size = object.user_value_size;
  if ((flags & (BPF_F_CPU | BPF_F_ALL_CPUS)) != 0) [[unlikely]] {
    const Result<uint64_t> one = one_cpu_value_size(object, flags);
    if (!one) return pass_on(one.error());
    size = *one;
  }

  if (object.key_size == 0) [[unlikely]]
    return lookup_keyless(object, key, value, flags);
  Bounce key_copy(object.key_size);
  Bounce value_copy(size);
  if (key_copy.data() == nullptr || value_copy.data() == nullptr) return fail(ENOMEM);
  if (!read_user_inline(key_copy.data(), key, object.key_size)) return fail(EFAULT);
  if (const Status status = object.map->lookup(key_copy.data(), value_copy.data(), flags); !status)
    return pass_on(status.error());
  if (!write_user_inline(value, value_copy.data(), size)) return fail(EFAULT);
  return 0;
}

[[gnu::always_inline]] inline Answer update_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value,
                                                 uint64_t flags) {
  const ReaderSection section(process.machine);
  Errno error;
  const OpenObject* const found = find_map(process, map_fd, error);
  if (found == nullptr) [[unlikely]]
    return pass_on(error);
  const OpenObject& object = *found;
  if (!may_write(object)) return fail(EPERM);
  if ((flags & BPF_F_LOCK) != 0 && !object.has_spin_lock) return fail(EINVAL);
  uint64_t size = object.user_value_size;
  if ((flags & (BPF_F_CPU | BPF_F_ALL_CPUS)) != 0 && is_per_cpu(object.type)) [[unlikely]] {
    const Result<uint64_t> one = one_cpu_value_size(object, flags);
    if (!one) return pass_on(one.error());
    size = *one;
  }

  Bounce key_copy(object.key_size);
  Bounce value_copy(size);
  if (key_copy.data() == nullptr || value_copy.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(object, key, key_copy.data()); !read) return pass_on(read.error());
  if (!read_user_inline(value_copy.data(), value, size)) return fail(EFAULT);
  if ((flags & ~kFlagBits) != 0 && (flags & BPF_F_CPU) == 0) return fail(EINVAL);
  const Lease lease(process.machine);
  if (is_frozen(object)) return fail(EPERM);
  if (const Status status = object.map->update(lease, key_copy.data(), value_copy.data(), flags); !status)
    return pass_on(status.error());
  return 0;
}

[[gnu::always_inline]] inline Answer delete_elem(Process& process, uint32_t map_fd, uint64_t key) {
  const ReaderSection section(process.machine);
  Errno error;
  const OpenObject* const found = find_map(process, map_fd, error);
  if (found == nullptr) [[unlikely]]
    return pass_on(error);
  const OpenObject& object = *found;
  if (!may_write(object)) return fail(EPERM);
  Bounce key_copy(object.key_size);
  if (key_copy.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(object, key, key_copy.data()); !read) return pass_on(read.error());
  const Lease lease(process.machine);
  if (is_frozen(object)) return fail(EPERM);
  if (const Status status = object.map->erase(lease, key_copy.data()); !status) return pass_on(status.error());
  return 0;
}

[[gnu::always_inline]] inline Answer get_next_key(Process& process, uint32_t map_fd, uint64_t key, uint64_t next_key) {
  const ReaderSection section(process.machine);
  Errno error;
  const OpenObject* const found = find_map<true>(process, map_fd, error);
  if (found == nullptr) [[unlikely]]
    return pass_on(error);
  const OpenObject& object = *found;
  if (!object.readable) return fail(EPERM);
  Bounce key_copy(object.key_size);
  Bounce next(object.key_size);
  if (key_copy.data() == nullptr || next.data() == nullptr) return fail(ENOMEM);
  const std::byte* from = nullptr;
  if (key != 0) {
    if (const Status read = read_key(object, key, key_copy.data()); !read) return pass_on(read.error());
    from = key_copy.data();
  }
  if (const Status status = object.map->next_key(from, next.data()); !status) return pass_on(status.error());
  if (!write_user_inline(next_key, next.data(), object.key_size)) return fail(EFAULT);
  return 0;
}

[[gnu::always_inline]] inline Answer lookup_and_delete_elem(Process& process, uint32_t map_fd, uint64_t key,
                                                            uint64_t value, uint64_t flags) {
  if ((flags & ~uint64_t{BPF_F_LOCK}) != 0) return fail(EINVAL);
  const ReaderSection section(process.machine);
  Errno error;
  const OpenObject* const found = find_map(process, map_fd, error);
  if (found == nullptr) [[unlikely]]
    return pass_on(error);
  const OpenObject& object = *found;
  if (!object.readable || !may_write(object)) return fail(EPERM);
  if (flags != 0 && !object.has_spin_lock) return fail(EINVAL);

  Bounce key_copy(object.key_size);
  Bounce value_copy(object.user_value_size);
  if (key_copy.data() == nullptr || value_copy.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(object, key, key_copy.data()); !read) return pass_on(read.error());
  {
    const Lease lease(process.machine);
    if (is_frozen(object)) return fail(EPERM);
    if (const Status status = object.map->take(lease, key_copy.data(), value_copy.data(), flags); !status)
      return pass_on(status.error());
  }
  if (!write_user_inline(value, value_copy.data(), object.user_value_size)) return fail(EFAULT);
  return 0;
}

/// The answer, unless keys or values of the map are not bytes: then that of one of the others, which may take its time.
template <class Storage, class Reference>
[[gnu::always_inline]] inline int result_of(const Answer& answer, Process& process, uint32_t map_fd,
                                            const Storage& storage, const Reference& reference) {
  if (answer) [[likely]]
    return *answer;
  if (answer.error() != kNotBytes) return -to_int(answer.error());
  return to_result(is_storage(process, map_fd) ? storage() : reference());
}

}  // namespace

int map_lookup_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags) {
  return result_of(
      lookup_elem(process, map_fd, key, value, flags), process, map_fd,
      [&] { return storage_lookup_elem(process, map_fd, key, value, flags); },
      [&] { return reference_lookup_elem(process, map_fd, key, value, flags); });
}

int map_update_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags) {
  return result_of(
      update_elem(process, map_fd, key, value, flags), process, map_fd,
      [&] { return storage_update_elem(process, map_fd, key, value, flags); },
      [&] { return reference_update_elem(process, map_fd, key, value, flags); });
}

int map_delete_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t, uint64_t) {
  return result_of(
      delete_elem(process, map_fd, key), process, map_fd, [&] { return storage_delete_elem(process, map_fd, key); },
      [&] { return reference_delete_elem(process, map_fd, key); });
}

int map_get_next_key(Process& process, uint32_t map_fd, uint64_t key, uint64_t next_key, uint64_t) {
  return to_result(get_next_key(process, map_fd, key, next_key));
}

int map_lookup_and_delete_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags) {
  return result_of(
      lookup_and_delete_elem(process, map_fd, key, value, flags), process, map_fd,
      [&] { return storage_take_elem(process, map_fd, key, flags); },
      [&] { return reference_take_elem(process, map_fd, key, flags); });
}

}  // namespace skep
