// SPDX-License-Identifier: Apache-2.0
// The end of objects, and the holds that put it off.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "object/directory_listing.h"
#include "object/instance.h"
#include "object/link_file.h"
#include "object/object_name.h"
#include "storage/owners.h"

namespace skep {

using Pending = std::vector<std::pair<ObjectKind, uint32_t>>;

Status Instance::hold(ObjectKind holder_kind, uint32_t holder, ObjectKind held_kind, uint32_t held, int held_fd) {
  const int directory = directory_fd();
  const ObjectName name(holder_kind, holder);
  if (::mkdirat(directory, name.holds(), 0700) != 0 && errno != EEXIST) return fail_full(errno);
  const std::string path = std::string(name.holds()) + "/" + ObjectName(held_kind, held).flat();
  const Status linked = link_file(held_fd, directory, path.c_str());
  if (!linked && to_int(linked.error()) == EEXIST) return {};
  return linked;
}

void Instance::drop_holds(const char* holder_name, Pending& next) {
  const int directory = directory_fd();
  const std::string holds = std::string("holds/") + holder_name;
  const std::vector<std::string> names = list_directory(directory, holds.c_str());
  for (const std::string& name : names) {
    ::unlinkat(directory, (holds + "/" + name).c_str(), 0);
    if (const auto held = parse_flat_name(name)) next.push_back(*held);
  }
  ::unlinkat(directory, holds.c_str(), AT_REMOVEDIR);
}

void Instance::remove_dead(ObjectKind kind, uint32_t id, Pending& next) {
  const ObjectName name(kind, id);
  drop_holds(name.flat(), next);
  if (kind == ObjectKind::kMap) {
    ::unlinkat(directory_fd(), ("bells/" + std::to_string(id)).c_str(), 0);
    Owners::map_is_gone(*machine_, id);
  }
  if (kind == ObjectKind::kPerfEvent) ::unlinkat(directory_fd(), ("bells/event-" + std::to_string(id)).c_str(), 0);
  ::unlinkat(directory_fd(), name.path(), 0);  // the commit: from here on nobody can find it
}

void Instance::collect_one(ObjectKind kind, uint32_t id, Pending& next) {
  const FileDescriptor fd = open_object(kind, id, O_RDONLY);
  struct stat info {};
  if (fd.get() < 0 || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return;
  if (::fstat(fd.get(), &info) != 0) return;
  if (info.st_nlink == 1) {
    remove_dead(kind, id, next);
  } else if (opening_ && kind == ObjectKind::kMap && info.st_nlink > 1) {
    unused_maps_.push_back(id);
  }
}

nlink_t Instance::count_holders(ObjectKind kind, uint32_t id) const {
  const int directory = directory_fd();
  const ObjectName name(kind, id);
  nlink_t holders = 0;
  for (const std::string& holder : list_directory(directory, "holds")) {
    struct stat info {};
    const std::string path = "holds/" + holder + "/" + name.flat();
    holders += ::fstatat(directory, path.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 ? 1 : 0;
  }
  return holders;
}

Result<FileDescriptor> Instance::open_unused_map(uint32_t id, bool (*wanted)(int fd)) {
  FileDescriptor fd = open_object(ObjectKind::kMap, id, O_RDONLY);
  struct stat info {};
  if (fd.get() < 0 || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(fd.get(), &info) != 0) return fail(ENOENT);
  if (info.st_nlink < 2 || !wanted(fd.get()) || info.st_nlink - 1 > count_holders(ObjectKind::kMap, id))
    return fail(ENOENT);
  return fd;
}

bool Instance::map_has_users(uint32_t id) const {
  const FileDescriptor fd = open_object(ObjectKind::kMap, id, O_RDONLY);
  struct stat info {};
  if (fd.get() < 0) return errno != ENOENT;  // who has no descriptor left cannot tell
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return true;
  return ::fstat(fd.get(), &info) == 0 && info.st_nlink > 1 + count_holders(ObjectKind::kMap, id);
}

void Instance::visit_unused(const std::function<void(uint32_t)>& visit) {
  for (const uint32_t id : std::exchange(unused_maps_, {})) visit(id);
}

void Instance::collect_all(Pending& pending) {
  while (!pending.empty()) {
    const auto [kind, id] = pending.back();
    pending.pop_back();
    collect_one(kind, id, pending);
  }
}

void Instance::collect(ObjectKind kind, uint32_t id) {
  Pending pending;
  collect_one(kind, id, pending);
  collect_all(pending);
}

/// What a process that died between hold() and the naming of the holder left.
void Instance::drop_orphaned_holds(Pending& next) {
  const int directory = directory_fd();
  const FileDescriptor holds(::openat(directory, "holds", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (holds.get() < 0 || ::flock(holds.get(), LOCK_EX | LOCK_NB) != 0) return;
  for (const std::string& name : list_directory(directory, "holds")) {
    const auto holder = parse_flat_name(name);
    if (!holder) continue;
    struct stat info {};
    if (::fstatat(directory, ObjectName(holder->first, holder->second).path(), &info, AT_SYMLINK_NOFOLLOW) != 0 &&
        errno == ENOENT)
      drop_holds(name.c_str(), next);
  }
}

void Instance::collect_dead() {
  const int directory = directory_fd();
  Pending pending;
  for (const ObjectKind kind : kFileKinds) {
    for (const std::string& name : list_directory(directory, kind_directory(kind)))
      if (const std::optional<uint32_t> id = parse_id(name)) collect_one(kind, *id, pending);
    collect_all(pending);
  }
  drop_orphaned_holds(pending);
  collect_all(pending);
}

}  // namespace skep
