// SPDX-License-Identifier: Apache-2.0
// LINK_* and ITER_CREATE, for the one link that there is: an iterator over the elements of a map.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "btf/btf_file.h"
#include "memory/file_space.h"
#include "object/entry_holds.h"
#include "syscall/link_object.h"
#include "syscall/prog_commands.h"

namespace skep {
namespace {

constexpr char kTarget[] = "bpf_map_elem";
constexpr uint32_t kReplace = 4;  // BPF_F_REPLACE

bool can_be_iterated(uint32_t map_type) {
  switch (map_type) {
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_RHASH:
      return true;
    default:
      return false;
  }
}

/// The client's iter_info; zeros where it gives none.
Result<bpf_iter_link_info> read_target(const bpf_attr& attr) {
  bpf_iter_link_info target{};
  const uint64_t user = attr.link_create.iter_info;
  const uint32_t size = attr.link_create.iter_info_len;
  if ((user == 0) != (size == 0)) return fail(EINVAL);
  if (user == 0) return target;
  const auto known = check_info_size(user, size, sizeof target);
  if (!known) return std::unexpected(known.error());
  if (!read_user(&target, user, *known)) return fail(EFAULT);
  return target;
}

bool is_iterator(const OpenObject& program) { return program_of(program).image().facts.type == BPF_PROG_TYPE_TRACING; }

Answer publish_link(Caller& caller, const OpenObject& program, const OpenObject& map, int map_fd) {
  auto file = caller.instance().make_file(ObjectKind::kLink);
  if (!file) return std::unexpected(file.error());
  const int fd = file->get();
  LinkFile link{};
  link.file = make_file_header(ObjectKind::kLink, 0, kPageSize);
  link.type = BPF_LINK_TYPE_ITER;
  link.map = map.id;
  link.program.store(program.id, std::memory_order_relaxed);
  Status status = size_file(fd, kHeaderOffset + kPageSize);
  if (status) status = reserve_file(fd, kHeaderOffset, kPageSize);
  if (status) status = write_fully(fd, &link, sizeof link, kHeaderOffset);
  if (!status) return std::unexpected(status.error());
  Status held{};
  const auto id = caller.instance().publish(ObjectKind::kLink, fd, [&](uint32_t given) {
    store_file_id(fd, given);
    auto holds = EntryHolds::open(caller.instance(), ObjectKind::kLink, given);
    held = holds ? holds->add({.kind = ObjectKind::kProgram, .id = program.id}, 0) : fail(to_int(holds.error()));
    if (held) held = caller.instance().hold(ObjectKind::kLink, given, ObjectKind::kMap, map.id, map_fd);
  });
  if (!id) return std::unexpected(id.error());
  // A descriptor of a link is read-only.
  auto reader = held ? caller.instance().open_by_id(ObjectKind::kLink, *id, O_RDONLY) : fail(to_int(held.error()));
  if (!reader) {
    *file = FileDescriptor();
    caller.instance().collect(ObjectKind::kLink, *id);
    return std::unexpected(reader.error());
  }
  return caller.descriptors().install(std::move(*reader));
}

}  // namespace

const LinkFace& link_of(const OpenObject& object) { return static_cast<const LinkFace&>(*object.face); }

Result<std::shared_ptr<ObjectFace>> open_link(Process&, int fd, const FileHeader&) {
  if (const auto header = read_file_header(fd, ObjectKind::kLink); !header) return std::unexpected(header.error());
  const Result<FileDescriptor> writer = Instance::reopen(fd, O_RDWR);
  auto segment = writer ? Segment::map(writer->get(), kHeaderOffset, sizeof(LinkFile), Access::kReadWrite)
                        : Segment::map(fd, kHeaderOffset, sizeof(LinkFile), Access::kReadOnly);
  if (!segment) return std::unexpected(segment.error());
  return std::make_shared<LinkFace>(std::move(*segment));
}

Answer link_create(Caller& caller) {
  const auto& create = caller.attr.link_create;
  const auto program = caller.descriptors().share(static_cast<int>(create.prog_fd), ObjectKind::kProgram);
  if (!program) return std::unexpected(program.error());
  if (!is_iterator(**program) || create.attach_type != BPF_TRACE_ITER) return fail(EINVAL);
  if (create.target_fd != 0 || create.flags != 0) return fail(EINVAL);
  const auto target = read_target(caller.attr);
  if (!target) return std::unexpected(target.error());
  if ((program_of(**program).image().facts.flags & BPF_F_SLEEPABLE) != 0) return fail(EINVAL);
  if (target->map.map_fd == 0) return fail(EBADF);
  const int map_fd = static_cast<int>(target->map.map_fd);
  const auto map = caller.descriptors().share(map_fd, ObjectKind::kMap);
  if (!map) return std::unexpected(map.error());
  if (!can_be_iterated((*map)->type)) return fail(EINVAL);
  return publish_link(caller, **program, **map, map_fd);
}

Answer link_update(Caller& caller) {
  const auto& update = caller.attr.link_update;
  if ((update.flags & ~kReplace) != 0) return fail(EINVAL);
  const auto link = caller.descriptors().share(static_cast<int>(update.link_fd), ObjectKind::kLink);
  if (!link) return std::unexpected(link.error());
  const auto program = caller.descriptors().share(static_cast<int>(update.new_prog_fd), ObjectKind::kProgram);
  if (!program) return std::unexpected(program.error());
  uint32_t old = link_of(**link).link().program.load(std::memory_order_relaxed);
  if ((update.flags & kReplace) != 0) {
    const auto expected = caller.descriptors().share(static_cast<int>(update.old_prog_fd), ObjectKind::kProgram);
    if (!expected) return std::unexpected(expected.error());
    if ((*expected)->id != old) return fail(EPERM);
  } else if (update.old_prog_fd != 0) {
    return fail(EINVAL);
  }
  if (!is_iterator(**program)) return fail(EINVAL);
  if (!link_of(**link).writable()) return fail(EACCES);
  auto holds = EntryHolds::open(caller.instance(), ObjectKind::kLink, (*link)->id);
  if (!holds) return std::unexpected(holds.error());
  const HeldObject added{.kind = ObjectKind::kProgram, .id = (*program)->id};
  if (const Status held = holds->add(added, 0); !held) return std::unexpected(held.error());
  auto& word = link_of(**link).link().program;
  // Released with its hold in place; pairs with the load in iterate(). Who changes it by anybody's leave but not from
  // the program that the client named has come too late.
  while (!word.compare_exchange_weak(old, added.id, std::memory_order_acq_rel)) {
    if ((update.flags & kReplace) == 0) continue;
    holds->drop(added, 0);
    return fail(EPERM);
  }
  holds->drop({.kind = ObjectKind::kProgram, .id = old}, 0);
  return 0;
}

Answer link_detach(Caller& caller) {
  const auto link = caller.descriptors().share(static_cast<int>(caller.attr.link_detach.link_fd), ObjectKind::kLink);
  if (!link) return std::unexpected(link.error());
  return fail(EOPNOTSUPP);
}

Answer iter_create(Caller& caller) {
  if (caller.attr.iter_create.flags != 0) return fail(EINVAL);
  const auto link = caller.descriptors().share(static_cast<int>(caller.attr.iter_create.link_fd), ObjectKind::kLink);
  if (!link) return std::unexpected(link.error());
  auto file = iterate(caller.process, link_of(**link).link());
  if (!file) return std::unexpected(file.error());
  return file->release();
}

Answer link_info(Caller& caller, const OpenObject& object) {
  const auto size = check_info_size(caller.attr.info.info, caller.attr.info.info_len, sizeof(bpf_link_info));
  if (!size) return std::unexpected(size.error());
  bpf_link_info info{};
  if (!read_user(&info, caller.attr.info.info, *size)) return fail(EFAULT);
  const LinkFile& link = link_of(object).link();
  info.type = link.type;
  info.id = object.id;
  info.prog_id = link.program.load(std::memory_order_relaxed);
  const uint64_t name = info.iter.target_name;
  const uint32_t room = info.iter.target_name_len;
  if ((name == 0) != (room == 0)) return fail(EINVAL);
  info.iter.target_name_len = sizeof kTarget;
  if (name != 0) {
    const size_t copied = std::min<size_t>(room, sizeof kTarget);
    if (!write_user(name, kTarget, copied - 1) || !write_user(name + copied - 1, "", 1)) return fail(EFAULT);
    if (room < sizeof kTarget) return fail(ENOSPC);
  }
  info.iter.map.map_id = link.map;
  return finish_info(caller, &info, *size);
}

std::string link_fdinfo(Process& process, const OpenObject& object) {
  const LinkFile& link = link_of(object).link();
  const uint32_t program = link.program.load(std::memory_order_relaxed);
  std::string text = "link_type:\titer\nlink_id:\t" + std::to_string(object.id) + "\nprog_tag:\t";
  const auto file = process.instance->open_by_id(ObjectKind::kProgram, program, O_RDONLY);
  const auto face = file ? open_program(process, file->get(), {}) : fail(ENOENT);
  if (face) text += tag_text(static_cast<const ProgramFace&>(**face).image().facts);
  return text + "\nprog_id:\t" + std::to_string(program) + "\ntarget_name:\t" + kTarget + "\nmap_id:\t" +
         std::to_string(link.map) + "\n";
}

}  // namespace skep
