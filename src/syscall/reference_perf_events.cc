// SPDX-License-Identifier: Apache-2.0
// Perf events in maps: the values of PERF_EVENT_ARRAY. A word is the event's id and the insertion's number
// (perf_event_entries.h); the number is 0 where the entry does not go with a descriptor.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "object/object_name.h"
#include "syscall/perf_event_entries.h"
#include "syscall/perf_events.h"
#include "syscall/reference_kinds.h"
#include "syscall/reference_store.h"

namespace skep {
namespace {

/// Where the bytes begin that insertions lock, far behind the content of a map's file.
constexpr off_t kInsertionBytes = off_t{1} << 60;
constexpr int kAttempts = 16;

struct flock insertion_lock(uint32_t number) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kInsertionBytes + off_t{number};
  lock.l_len = 1;
  return lock;
}

bool is_kernel_event(int fd) {
  char path[32], target[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const ssize_t length = ::readlink(path, target, sizeof target);
  return length > 0 && std::string_view(target, static_cast<size_t>(length)) == "anon_inode:[perf_event]";
}

Result<Reference> resolve(Process& process, const OpenObject&, const void* value) {
  int fd;
  std::memcpy(&fd, value, sizeof fd);
  const auto event = process.descriptors.share(fd);
  if (!event || (*event)->kind != ObjectKind::kPerfEvent) {
    if (!is_kernel_event(fd)) return fail(EBADF);
    return fail_because(EOPNOTSUPP,
                        "a perf event of the kernel, into whose ring no process can write; under the preload library "
                        "perf_event_open(2) of PERF_COUNT_SW_BPF_OUTPUT for one CPU gives an event that works");
  }
  // A reference of our own: the client may close its descriptor meanwhile.
  Result<FileDescriptor> file = process.instance->open_by_id(ObjectKind::kPerfEvent, (*event)->id, O_RDONLY);
  if (!file) return std::unexpected(file.error());
  return Reference{
      .word = (*event)->id, .held = {.kind = ObjectKind::kPerfEvent, .id = (*event)->id}, .file = *std::move(file)};
}

Status bind(const OpenObject& map, int map_fd, Reference& reference) {
  MapHeader& header = map.map->header();
  if ((header.spec.flags & BPF_F_PRESERVE_ELEMS) != 0) return {};
  // Numbers repeat after 2^32 insertions; one that is still in use is passed over.
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const uint32_t number = header.insertions.fetch_add(1, std::memory_order_relaxed) + 1;
    if (number == 0) continue;
    struct flock lock = insertion_lock(number);
    if (::fcntl(map_fd, F_OFD_SETLK, &lock) == 0) {
      reference.word |= uint64_t{number} << 32;
      return {};
    }
    if (errno != EAGAIN && errno != EACCES) return fail(errno);
  }
  return fail(EBUSY);
}

HeldObject held(uint64_t word) { return {.kind = ObjectKind::kPerfEvent, .id = static_cast<uint32_t>(word)}; }

bool alive(const OpenObject& map, uint64_t word) { return insertion_is_open(*map.map, word); }

}  // namespace

bool insertion_is_open(const Map& map, uint64_t word) {
  const auto number = static_cast<uint32_t>(word >> 32);
  if (number == 0) return true;
  const std::string path = map.machine().directory() + "/" + ObjectName(ObjectKind::kMap, map.header().file.id).path();
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct flock lock = insertion_lock(number);
  return fd.get() < 0 || ::fcntl(fd.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void drop_closed_insertions(Process& process, uint32_t id) {
  const auto map = process.descriptors.map_by_id(id);
  if (!map || (*map)->header().insertions.load(std::memory_order_relaxed) == 0) return;
  ReferenceStore(process, **map, kPerfEventReferences).drop_if([&](uint64_t word) {
    return !insertion_is_open(**map, word);
  });
}

constinit const ReferenceKind kPerfEventReferences = {.meaning = ValueMeaning::kPerfEvent,
                                                      .resolve = resolve,
                                                      .show = nullptr,
                                                      .held = held,
                                                      .check_lookup = nullptr,
                                                      .alive = alive,
                                                      .bind = bind};

}  // namespace skep
