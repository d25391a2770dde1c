// SPDX-License-Identifier: Apache-2.0
#include "syscall/client_mappings.h"
#include "syscall/commands.h"
#include "syscall/map_access.h"

namespace skep {

Answer map_freeze(Caller& caller) {
  const Result<std::shared_ptr<const OpenObject>> found = share_map(caller, caller.attr.map_fd);
  if (!found) return std::unexpected(found.error());
  const OpenObject& object = **found;
  MapHeader& header = object.map->header();
  if (header.spec.fields.any()) return fail(kEnotsupp);
  if (!may_write(object)) return fail(EPERM);
  if (header.file.user_size > 0) {
    struct stat info {};
    info.st_dev = object.device;
    info.st_ino = object.inode;
    if (has_writable_client_mapping(info, header.file.user_size)) return fail(EBUSY);
  }
  // Pairs with is_frozen(). Writers that did not see it hold a lease, and those end before this returns.
  if (header.frozen.exchange(1, std::memory_order_acq_rel) != 0) return fail(EPERM);
  caller.machine().synchronize();
  return 0;
}

}  // namespace skep
