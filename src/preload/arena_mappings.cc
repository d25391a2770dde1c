// SPDX-License-Identifier: Apache-2.0
#include "preload/arena_mappings.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <skep/abi.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <mutex>

#include "maps/arena_map.h"
#include "preload/high_descriptor.h"
#include "preload/mapping_calls.h"
#include "preload/real.h"

namespace skep::preload {

constinit std::atomic<uint32_t> mapped_arenas{0};

namespace {

constexpr uint64_t kSpan = uint64_t{1} << 32;  // no mapping crosses a multiple of it

/// One mapping; begin is stored last and cleared first, so that a signal handler may read without the lock.
struct Mapping {
  std::atomic<uint64_t> begin;  // 0: unused
  std::atomic<uint64_t> end;
  std::atomic<int> guard;  // the userfaultfd of one with BPF_F_SEGV_ON_FAULT; -1
};
std::array<Mapping, 64> mappings;
constinit QuietMutex mutex;  // for writers

uint64_t number(const void* address) { return reinterpret_cast<uint64_t>(address); }
void* pointer(uint64_t address) { return reinterpret_cast<void*>(address); }

void drop(Mapping& mapping) {
  mapping.begin.store(0, std::memory_order_release);
  mapped_arenas.fetch_sub(1, std::memory_order_relaxed);
  const int guard = mapping.guard.exchange(-1);
  if (guard >= 0) real::close(guard);
}

/// The child has none of the mappings.
void watch_forks() {
  [[maybe_unused]] static const int once = pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); },
                                                          [] {
                                                            for (Mapping& mapping : mappings) {
                                                              if (mapping.begin.load() != 0) drop(mapping);
                                                            }
                                                            mutex.unlock();
                                                          });
}

/// Makes touches of pages that the file has not a SIGBUS, for the process and for system calls EFAULT. -1: this host
/// does not let us; then they make a page, as without BPF_F_SEGV_ON_FAULT.
int guard_against_touch(uint64_t begin, uint64_t length) {
  const auto fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
  if (fd < 0) return -1;
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM;
  uffdio_register range{};
  range.range = {.start = begin, .len = length};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &range) == 0) return move_high(fd);
  real::close(fd);
  return -1;
}

/// False: the table is full. With the mutex held.
bool remember(uint64_t begin, uint64_t length, bool strict) {
  for (Mapping& mapping : mappings) {
    if (mapping.begin.load(std::memory_order_relaxed) != 0) continue;
    const int guard = strict ? guard_against_touch(begin, length) : -1;
    mapping.guard.store(guard, std::memory_order_relaxed);
    mapping.end.store(begin + length, std::memory_order_relaxed);
    mapping.begin.store(begin, std::memory_order_release);  // pairs with is_unallocated_page()
    mapped_arenas.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

/// Free address space for the first mapping, as the kernel chooses it: room for twice the length, and on to the next
/// multiple of 4 GiB if that lies inside. 0: errno says why there is none.
uint64_t choose_place(void* hint, uint64_t length) {
  void* const room = real::mmap(hint, 2 * length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return 0;
  const uint64_t begin = number(room);
  const uint64_t place = begin >> 32 == (begin + length - 1) >> 32 ? begin : round_up(begin, kSpan);
  // The middle stays reserved until the arena is mapped over it.
  if (place > begin) real::munmap(room, place - begin);
  const uint64_t end = place + length;
  if (end < begin + 2 * length) real::munmap(pointer(end), begin + 2 * length - end);
  return place;
}

}  // namespace

int arena_refusal(const OpenObject& object, const void* address, size_t length, off_t offset) {
  const ArenaMap::Window window = static_cast<const ArenaMap&>(*object.map).window();
  const uint64_t size = round_up(length, kPageSize);
  if (offset != 0 || length == 0) return EINVAL;
  if (size > kSpan) return E2BIG;
  if (window.pages == 0) return 0;
  if (size > window.pages * kPageSize) return E2BIG;
  return size < window.pages * kPageSize || number(address) != window.start ? EINVAL : 0;
}

void* map_arena(const OpenObject& object, int fd, void* address, size_t length, int protection, int flags) {
  auto& arena = static_cast<ArenaMap&>(*object.map);
  const uint64_t size = round_up(length, kPageSize);
  const bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
  const bool first = arena.window().pages == 0;
  uint64_t place = number(address);
  if (first && !fixed) {
    place = choose_place(address, size);
    if (place == 0) return MAP_FAILED;
  } else if (first && place >> 32 != (place + size - 1) >> 32) {
    place = round_up(place, kSpan);
  }
  const bool may_replace = first ? (flags & MAP_FIXED_NOREPLACE) == 0 : (flags & MAP_FIXED) != 0;
  const int where = may_replace ? MAP_FIXED : MAP_FIXED_NOREPLACE;
  const int kind = (flags & ~(MAP_FIXED | MAP_FIXED_NOREPLACE)) | where;
  watch_forks();
  const std::scoped_lock lock(mutex);
  void* const memory = map_holes(fd, pointer(place), size, protection, kind);
  if (memory == MAP_FAILED) {
    if (errno == EEXIST && !fixed) errno = EBUSY;
    return MAP_FAILED;
  }
  if (may_replace) forget_arenas(memory, size);
  // Another process may have been first meanwhile.
  const bool agreed = arena.claim_window(place, size / kPageSize);
  if (!agreed || !remember(place, size, (arena.spec().flags & BPF_F_SEGV_ON_FAULT) != 0)) {
    real::munmap(memory, size);
    errno = agreed ? ENOMEM : EBUSY;
    return MAP_FAILED;
  }
  madvise(memory, size, MADV_DONTFORK);
  return memory;
}

Overlap arena_overlap(const void* address, size_t length) {
  const uint64_t begin = number(address), end = begin + round_up(length, kPageSize);
  Overlap found = Overlap::kNone;
  for (const Mapping& mapping : mappings) {
    const uint64_t from = mapping.begin.load(std::memory_order_acquire);
    const uint64_t to = mapping.end.load(std::memory_order_relaxed);
    if (from == 0 || from >= end || to <= begin) continue;
    if (from < begin || to > end) return Overlap::kPart;
    found = Overlap::kWhole;
  }
  return found;
}

void forget_arenas(const void* address, size_t length) {
  const uint64_t begin = number(address), end = begin + round_up(length, kPageSize);
  for (Mapping& mapping : mappings) {
    const uint64_t from = mapping.begin.load(std::memory_order_relaxed);
    if (from != 0 && from >= begin && mapping.end.load(std::memory_order_relaxed) <= end) drop(mapping);
  }
}

bool is_unallocated_page(const void* address) {
  for (const Mapping& mapping : mappings) {
    const uint64_t from = mapping.begin.load(std::memory_order_acquire);
    if (from != 0 && number(address) >= from && number(address) < mapping.end.load(std::memory_order_relaxed))
      return true;
  }
  return false;
}

QuietMutex& arenas_mutex() { return mutex; }

bool is_guard(int fd) {
  return fd >= 0 && first_guard(static_cast<unsigned>(fd), static_cast<unsigned>(fd)).has_value();
}

std::optional<unsigned> first_guard(unsigned first, unsigned last) {
  if (mapped_arenas.load(std::memory_order_relaxed) == 0) return std::nullopt;
  std::optional<unsigned> lowest;
  for (const Mapping& mapping : mappings) {
    if (mapping.begin.load(std::memory_order_acquire) == 0) continue;
    const int guard = mapping.guard.load(std::memory_order_relaxed);
    const auto fd = static_cast<unsigned>(guard);
    if (guard >= 0 && fd >= first && fd <= last && (!lowest || fd < *lowest)) lowest = fd;
  }
  return lowest;
}

bool duplicate_guard(int fd) {
  const std::scoped_lock lock(mutex);
  for (Mapping& mapping : mappings) {
    if (mapping.begin.load(std::memory_order_relaxed) == 0 || mapping.guard.load(std::memory_order_relaxed) != fd)
      continue;
    const int other = high_duplicate(fd);
    if (other < 0) return false;
    mapping.guard.store(other, std::memory_order_relaxed);
    return true;
  }
  return true;
}

}  // namespace skep::preload
