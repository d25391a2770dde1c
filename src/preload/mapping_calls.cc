// SPDX-License-Identifier: Apache-2.0
// mmap(2) of a map. A plain mapping of the descriptor is right as far as the bytes go; what the file system cannot know
// is which maps may be mapped how, and that a mapping made for reading never becomes writable.

#include <fcntl.h>
#include <skep/abi.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>

#include "maps/map.h"
#include "memory/file_header.h"
#include "memory/own_window.h"
#include "preload/arena_mappings.h"
#include "preload/export.h"
#include "preload/mapping_calls.h"
#include "preload/real.h"
#include "preload/runtime.h"
#include "syscall/perf_events.h"
#include "syscall/process.h"

using namespace skep::preload;

namespace {

/// The rules of Linux 6.18, in its order; 0: the mapping may be made.
int refusal(const skep::OpenObject& object, size_t length, int protection, int flags, off_t offset) {
  const bool shared = (flags & (MAP_SHARED | MAP_PRIVATE)) != MAP_PRIVATE;
  const bool write = (protection & PROT_WRITE) != 0;
  if (!object.readable || (shared && write && !object.writable)) return EACCES;
  if ((protection & PROT_EXEC) != 0) return EPERM;
  if (object.kind != skep::ObjectKind::kMap) return ENODEV;

  const skep::MapHeader& header = object.map->header();
  const skep::MapKind* kind = skep::find_map_kind(header.spec.type);
  if (kind == nullptr || !kind->mmapable || header.spec.fields.any()) return skep::kEnotsupp;
  if (!shared || !object.writable) return EINVAL;
  if (write && header.frozen.load(std::memory_order_acquire) != 0) return EPERM;
  if (write && (header.spec.flags & BPF_F_RDONLY_PROG) != 0) return EACCES;
  if (header.spec.type == BPF_MAP_TYPE_ARRAY && (header.spec.flags & BPF_F_MMAPABLE) == 0) return EINVAL;
  if (header.spec.type == BPF_MAP_TYPE_ARENA) return 0;  // how long it may be, arena_refusal() has said
  const uint64_t begin = static_cast<uint64_t>(offset);
  const uint64_t pages = skep::round_up(length, skep::kPageSize);
  // Of a ring buffer a client writes what is its own: the consumer's page alone, or everything but that.
  if (write && header.spec.type == BPF_MAP_TYPE_RINGBUF && (begin != 0 || pages != skep::kPageSize)) return EPERM;
  if (write && header.spec.type == BPF_MAP_TYPE_USER_RINGBUF && begin == 0) return EPERM;
  return begin > header.file.user_size || pages > header.file.user_size - begin ? EINVAL : 0;
}

/// Maps a fresh read-only description, so that nobody can make the mapping writable, with a reference of its own, so
/// that the mapping alone keeps the map.
void* map_for_reading(int fd, void* address, size_t length, int protection, int flags, off_t offset) {
  auto description = skep::Instance::reopen(fd, O_RDONLY);
  if (!description || flock(description->get(), LOCK_SH) != 0) return MAP_FAILED;
  return real::mmap(address, length, protection, flags, description->get(), offset);
}

/// mmap(2), which `map` does: with MAP_FIXED it may take the place of arenas.
template <class Map>
void* map_in_place(const void* address, size_t length, int flags, const Map& map) {
  if ((flags & MAP_FIXED) == 0) return map();
  void* memory = MAP_FAILED;
  replace_range(address, length, [&] { return (memory = map()) != MAP_FAILED; });
  return memory;
}

bool touches_arenas(const void* address, size_t length, skep::preload::Overlap how) {
  return mapped_arenas.load(std::memory_order_relaxed) != 0 && arena_overlap(address, length) == how;
}

int refuse(int error) {
  errno = error;
  return -1;
}

/// The page and the ring of a perf event, through a description of the mapping's own.
void* map_event(const skep::OpenObject& event, void* address, size_t length, int protection, int flags, off_t offset) {
  if ((protection & PROT_EXEC) != 0) {
    errno = EPERM;
    return MAP_FAILED;
  }
  const bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
  const auto description = skep::perf_event_prepare_mapping(
      *start(), event, length, shared, (protection & PROT_WRITE) != 0, static_cast<uint64_t>(offset));
  if (!description) {
    errno = skep::to_int(description.error());
    return MAP_FAILED;
  }
  void* const memory = real::mmap(address, length, protection, flags, description->get(), offset);
  if (memory != MAP_FAILED) madvise(memory, length, MADV_DONTFORK);  // as the kernel's
  return memory;
}

}  // namespace

namespace skep::preload {

void* map_holes(int fd, void* address, size_t length, int protection, int flags) {
  void* const memory = (protection & PROT_WRITE) != 0 ? real::mmap(address, length, PROT_NONE, flags, fd, 0)
                                                      : map_for_reading(fd, address, length, PROT_NONE, flags, 0);
  if (memory == MAP_FAILED) return MAP_FAILED;
  munlock(memory, length);
  madvise(memory, length, MADV_NOHUGEPAGE);
  if (real::mprotect(memory, length, protection) == 0) return memory;
  const int error = errno;
  real::munmap(memory, length);
  errno = error;
  return MAP_FAILED;
}

}  // namespace skep::preload

SKEP_TAKES int munmap(void* address, size_t length) noexcept {
  if (touches_arenas(address, length, Overlap::kPart)) return refuse(EINVAL);
  return replace_range(address, length, [=] { return real::munmap(address, length) == 0; }) ? 0 : -1;
}

SKEP_TAKES int mprotect(void* address, size_t length, int protection) noexcept {
  if (touches_arenas(address, length, Overlap::kPart)) return refuse(EINVAL);
  if ((protection & PROT_EXEC) != 0 && touches_arenas(address, length, Overlap::kWhole)) return refuse(EACCES);
  return real::mprotect(address, length, protection);
}

SKEP_TAKES void* mremap(void* address, size_t length, size_t new_length, int flags, ...) noexcept {
  void* wanted = nullptr;
  if ((flags & MREMAP_FIXED) != 0) {
    va_list arguments;
    va_start(arguments, flags);
    wanted = va_arg(arguments, void*);
    va_end(arguments);
  }
  const bool stays = new_length == length && (flags & MREMAP_FIXED) == 0;
  if (!stays && mapped_arenas.load(std::memory_order_relaxed) != 0 &&
      arena_overlap(address, length) != Overlap::kNone) {
    errno = new_length > length ? EFAULT : EINVAL;
    return MAP_FAILED;
  }
  if ((flags & MREMAP_FIXED) == 0) return real::mremap(address, length, new_length, flags, wanted);
  if (touches_arenas(wanted, new_length, Overlap::kPart)) {
    errno = EINVAL;
    return MAP_FAILED;
  }
  return map_in_place(wanted, new_length, MAP_FIXED,
                      [=] { return real::mremap(address, length, new_length, flags, wanted); });
}

SKEP_TAKES void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) noexcept {
  if ((flags & MAP_FIXED) != 0 && touches_arenas(address, length, Overlap::kPart)) {
    errno = EINVAL;
    return MAP_FAILED;
  }
  const auto map_file = [=] { return real::mmap(address, length, protection, flags, fd, offset); };
  const bool own = (flags & skep::kOwnWindow) != 0;
  if (fd < 0 || (flags & MAP_ANONYMOUS) != 0 || own || !serving())
    return map_in_place(address, length, flags, map_file);
  const int saved_errno = errno;
  const auto object = start()->descriptors.share(fd);
  errno = saved_errno;
  if (!object) return map_in_place(address, length, flags, map_file);
  if ((*object)->kind == skep::ObjectKind::kPerfEvent) {
    return map_in_place(address, length, flags,
                        [&] { return map_event(**object, address, length, protection, flags, offset); });
  }
  const bool arena = (*object)->kind == skep::ObjectKind::kMap && (*object)->type == BPF_MAP_TYPE_ARENA;
  int error = arena ? arena_refusal(**object, address, length, offset) : 0;
  if (error == 0) error = refusal(**object, length, protection, flags, offset);
  if (error != 0) {
    errno = error;
    return MAP_FAILED;
  }
  if (arena) return map_arena(**object, fd, address, length, protection, flags);
  if ((protection & PROT_WRITE) != 0) return map_in_place(address, length, flags, map_file);
  return map_in_place(address, length, flags,
                      [=] { return map_for_reading(fd, address, length, protection, flags, offset); });
}
SKEP_TAKES_ALSO(mmap64, mmap);
