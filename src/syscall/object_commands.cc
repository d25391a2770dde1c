// SPDX-License-Identifier: Apache-2.0
// Objects by id and by descriptor.
#include <fcntl.h>

#include <climits>
#include <cstddef>

#include "syscall/commands.h"
#include "syscall/last_user.h"
#include "syscall/open_mode.h"
#include "syscall/token.h"

namespace skep {
namespace {

Answer next_id(Caller& caller, ObjectKind kind) {
  if (caller.attr.start_id >= INT_MAX) return fail(EINVAL);
  const Result<uint32_t> id = caller.instance().next_id(kind, caller.attr.start_id);
  if (!id) return std::unexpected(id.error());
  if (!caller.write_back(offsetof(bpf_attr, next_id), *id)) return fail(EFAULT);
  return 0;
}

Answer open_id(Caller& caller, ObjectKind kind, uint32_t id, int mode) {
  Result<FileDescriptor> fd = caller.instance().open_by_id(kind, id, mode);
  if (!fd) return std::unexpected(fd.error());
  return caller.descriptors().install(*std::move(fd));
}

}  // namespace

Answer prog_get_next_id(Caller& caller) { return next_id(caller, ObjectKind::kProgram); }
Answer map_get_next_id(Caller& caller) { return next_id(caller, ObjectKind::kMap); }
Answer btf_get_next_id(Caller& caller) { return next_id(caller, ObjectKind::kBtf); }
Answer link_get_next_id(Caller& caller) { return next_id(caller, ObjectKind::kLink); }

Answer prog_get_fd_by_id(Caller& caller) { return open_id(caller, ObjectKind::kProgram, caller.attr.prog_id, O_RDWR); }

Answer map_get_fd_by_id(Caller& caller) {
  const Result<int> mode = open_mode(caller.attr.open_flags, 0);
  if (!mode) return std::unexpected(mode.error());
  map_lost_its_users(caller.process, caller.attr.map_id);  // before this one becomes one
  return open_id(caller, ObjectKind::kMap, caller.attr.map_id, *mode);
}

Answer btf_get_fd_by_id(Caller& caller) {
  if ((caller.attr.open_flags & ~uint32_t{BPF_F_TOKEN_FD}) != 0) return fail(EINVAL);
  if (caller.attr.open_flags != 0) return fail_as_token(caller.attr.fd_by_id_token_fd);
  return open_id(caller, ObjectKind::kBtf, caller.attr.btf_id, O_RDONLY);
}

Answer link_get_fd_by_id(Caller& caller) { return open_id(caller, ObjectKind::kLink, caller.attr.link_id, O_RDONLY); }

Answer obj_get_info_by_fd(Caller& caller) {
  const auto object = caller.descriptors().share(static_cast<int>(caller.attr.info.bpf_fd));
  if (!object) return fail(to_int(object.error()) == EBADF ? EBADFD : to_int(object.error()));
  switch ((*object)->kind) {
    case ObjectKind::kMap:
      return map_info(caller, **object);
    case ObjectKind::kProgram:
      return prog_info(caller, **object);
    case ObjectKind::kBtf:
      return btf_info(caller, **object);
    case ObjectKind::kLink:
      return link_info(caller, **object);
    case ObjectKind::kMachine:
    case ObjectKind::kOwners:
    case ObjectKind::kPerfEvent:
      break;
  }
  return fail(EINVAL);
}

Answer enable_stats(Caller& caller) {
  if (caller.attr.enable_stats.type != BPF_STATS_RUN_TIME) return fail(EINVAL);
  Result<FileDescriptor> fd = caller.instance().enable_stats();
  if (!fd) return std::unexpected(fd.error());
  return fd->release();
}

bool stats_enabled(Instance& instance) { return instance.stats_enabled(); }

}  // namespace skep
