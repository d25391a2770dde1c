// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

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
/// All mappings inside the range are gone, or are going to be.
void forget_arenas(const void* address, size_t length);

/// Whether a SIGBUS at that address is the touch of a page that nobody has allocated, for which the kernel has SIGSEGV
/// (BPF_F_SEGV_ON_FAULT). Async-signal-safe.
[[nodiscard]] bool is_unallocated_page(const void* address);

}  // namespace skep::preload
