// SPDX-License-Identifier: Apache-2.0
#include "syscall/socket_clone.h"

#include <sys/socket.h>

#include <cerrno>

#include "machine/lease.h"
#include "maps/storage_map.h"
#include "syscall/bounce.h"

namespace skep {
namespace {

/// Only sockets of internet protocols are made from their listener.
bool is_made_from_its_listener(int fd) {
  int family = 0;
  socklen_t length = sizeof family;
  return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) == 0 && (family == AF_INET || family == AF_INET6);
}

Status clone(Process& process, StorageMap& map, const OwnerIdentity& from, const OwnerIdentity& to, int accepted) {
  Bounce value(map.spec().value_size);
  if (value.data() == nullptr) return fail(ENOMEM);
  const bool locked = map.spec().fields.spin_lock != ValueFields::kNone;
  if (const Status read = map.lookup_of(from, value.data(), locked ? BPF_F_LOCK : 0); !read) {
    return to_int(read.error()) == ENOENT ? Status{} : read;
  }
  const Lease lease(process.machine);
  return map.update_of(
      lease, to, [&] { return kSocketOwners.trace(accepted); }, value.data(), BPF_ANY);
}

}  // namespace

Status clone_socket_storage(Process& process, int listener, int accepted) {
  if (!is_made_from_its_listener(accepted)) return {};
  const auto from = kSocketOwners.resolve(listener);
  const auto to = kSocketOwners.resolve(accepted);
  if (!from || !to) return {};
  Status status{};
  StorageClones::for_each([&](uint32_t id) {
    const auto map = process.descriptors.map_by_id(id);
    if (!map) return true;  // it is gone
    if (auto* storage = dynamic_cast<StorageMap*>(map->get()); storage != nullptr)
      status = clone(process, *storage, *from, *to, accepted);
    return static_cast<bool>(status);
  });
  return status;
}

}  // namespace skep
