// SPDX-License-Identifier: Apache-2.0
#include "syscall/fdinfo.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>

#include "syscall/commands.h"
#include "syscall/map_access.h"
#include "syscall/process.h"
#include "syscall/program_owner.h"

namespace skep {
namespace {

/// The mount id that the host's kernel reports for the descriptor; any number will do for clients.
int mount_id(int fd) {
  struct statx info {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &info) != 0 || (info.stx_mask & STATX_MNT_ID) == 0) return 0;
  return static_cast<int>(info.stx_mnt_id);
}

std::string common_lines(int fd, const OpenObject& object) {
  int flags = ::fcntl(fd, F_GETFL) & O_ACCMODE;
  if ((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0) flags |= O_CLOEXEC;
  char text[160];
  std::snprintf(text, sizeof text, "pos:\t0\nflags:\t0%o\nmnt_id:\t%d\nino:\t%llu\n", static_cast<unsigned>(flags),
                mount_id(fd), static_cast<unsigned long long>(object.inode));
  return text;
}

std::string map_lines(const OpenObject& object) {
  const MapHeader& header = object.map->header();
  char text[512];
  std::snprintf(text, sizeof text,
                "map_type:\t%u\nkey_size:\t%u\nvalue_size:\t%u\nmax_entries:\t%u\nmap_flags:\t0x%x\n"
                "map_extra:\t0x%llx\nmemlock:\t%llu\nmap_id:\t%u\nfrozen:\t%u\n",
                header.spec.type, header.spec.key_size, header.spec.value_size, header.spec.max_entries,
                shown_flags(header.spec), static_cast<unsigned long long>(header.spec.extra),
                static_cast<unsigned long long>(header.memory), object.id,
                header.frozen.load(std::memory_order_relaxed));
  std::string lines = text;
  if (const auto owner = owner_of(header)) {
    lines += "owner_prog_type:\t" + std::to_string(owner->type) + "\nowner_jited:\t0\n";
  }
  return lines;
}

}  // namespace

std::string fdinfo_text(Process& process, int fd) {
  const auto object = process.descriptors.share(fd);
  if (!object) return {};
  std::string text = common_lines(fd, **object);
  if ((*object)->kind == ObjectKind::kMap) text += map_lines(**object);
  if ((*object)->kind == ObjectKind::kProgram) text += prog_fdinfo(**object);
  if ((*object)->kind == ObjectKind::kLink) text += link_fdinfo(process, **object);
  if ((*object)->kind == ObjectKind::kBtf) text += btf_fdinfo(**object);
  return text;
}

std::string fdinfo_text(int fd) {
  Process* process = default_process();
  return process == nullptr ? std::string() : fdinfo_text(*process, fd);
}

}  // namespace skep
