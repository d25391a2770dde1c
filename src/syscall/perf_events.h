// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "maps/perf_event.h"
#include "syscall/caller.h"

namespace skep {

// perf_event_open(2) for the events that bpf_perf_event_output() writes to, and what clients do with their descriptors.
// Errors and their order are those of Linux 6.18.

/// What a process keeps of such an event.
struct PerfEventFace final : ObjectFace {
  explicit PerfEventFace(std::unique_ptr<PerfEvent> whose) : event(std::move(whose)) {}
  const std::unique_ptr<PerfEvent> event;
};
/// The event of an object whose kind is kPerfEvent.
inline PerfEvent& event_of(const OpenObject& object) { return *static_cast<PerfEventFace&>(*object.face).event; }

/// Whether `attr` and the rest ask for an event that skep stands in for, pid and group being -1: of type
/// PERF_TYPE_SOFTWARE and config PERF_COUNT_SW_BPF_OUTPUT, for one CPU, not inherited, and with nothing in a sample
/// that only the kernel knows. Everything else, also what is wrong, is for the kernel to answer.
bool is_perf_output_event(uint64_t attr, int cpu, uint64_t flags);

/// Makes it; a descriptor. EINVAL: no such CPU; ENOMEM; EFAULT.
Answer perf_event_open(Process& process, uint64_t attr, int cpu, uint64_t flags);

/// ioctl(2) on it.
Answer perf_event_ioctl(const OpenObject& object, uint64_t request, uint64_t argument);

/// What mmap(2) of it needs: a description of its own, whose mapping keeps the event and tells that there is one.
/// EINVAL: not shared, not from the start, or not 1 + 2^n pages; or it has a ring of another size.
Result<FileDescriptor> perf_event_prepare_mapping(Process& process, const OpenObject& object, uint64_t length,
                                                  bool shared, bool write, uint64_t offset);

}  // namespace skep
