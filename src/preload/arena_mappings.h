// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include "machine/quiet_mutex.h"
#include "syscall/fd_table.h"

namespace skep::preload {

// Where this process has mapped arenas. Linux lets nobody change a part of such a mapping, places it so that it does
// not cross a multiple of 4 GiB, and keeps it from children. Any thread; nothing of it is inherited by fork(2).

/// How many mappings there are: nothing else here is needed while it is 0.
extern constinit std::atomic<uint32_t> mapped_arenas;

/// mmap(2) of an arena whose other rules allow it (mapping_calls.cc), by the rules of its kind: the first mapping of
/// any process says where and how long, all others are like it. MAP_FAILED with errno.
void* map_arena(const OpenObject& object, int fd, void* address, size_t length, int protection, int flags);

/// What the arena says to a mapping before anything else is looked at; 0: nothing.
int arena_refusal(const OpenObject& object, const void* address, size_t length, off_t offset);

/// How a range of addresses and the mappings lie to each other.
enum class Overlap { kNone, kPart, kWhole };
[[nodiscard]] Overlap arena_overlap(const void* address, size_t length);
/// Makes `change`, which takes the range from whatever is mapped there (munmap(2), mmap(2) with MAP_FIXED), and returns
/// whether that has succeeded: then all mappings inside the range are forgotten.
template <class Change>
bool replace_range(const void* address, size_t length, const Change& change);

/// Whether a SIGBUS at that address is what the kernel has SIGSEGV for: the touch of an arena's page that nobody has
/// allocated, where nobody may (BPF_F_SEGV_ON_FAULT) or there is no memory. Async-signal-safe.
[[nodiscard]] bool is_unallocated_page(const void* address);

// The mappings' userfaultfds, whose end would be that of SIGSEGV. They are not the program's, whatever it closes.
// Async-signal-safe but for duplicate_guard().
[[nodiscard]] bool is_guard(int fd);
/// The lowest of the numbers that is one.
[[nodiscard]] std::optional<unsigned> first_guard(unsigned first, unsigned last);
/// Makes `fd` superfluous. False: there is no other descriptor.
bool duplicate_guard(int fd);

QuietMutex& arenas_mutex();
void forget_arenas(const void* address, size_t length);  // with arenas_mutex() held

template <class Change>
bool replace_range(const void* address, size_t length, const Change& change) {
  if (mapped_arenas.load(std::memory_order_relaxed) == 0 || arena_overlap(address, length) == Overlap::kNone)
    return change();
  const std::scoped_lock lock(arenas_mutex());  // nobody maps an arena where it has just become free
  if (!change()) return false;
  forget_arenas(address, length);
  return true;
}

}  // namespace skep::preload
