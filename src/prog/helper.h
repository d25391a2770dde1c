// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace skep {

class Run;

/// What a helper expects in a register, checked before the helper is called.
enum class Argument : uint8_t {
  kNone,            // the helper has no such argument
  kAnything,        // a number
  kMap,             // a map of this program; the helper gets the MapBinding's address
  kMapKey,          // key_size readable bytes of the map before it
  kMapValue,        // value_size readable bytes likewise
  kMapValueOut,     // value_size writable bytes likewise; of a BLOOM_FILTER, which only looks at them, readable
  kReadable,        // readable memory of the size that follows
  kReadableOrNull,  // likewise; null with size 0
  kWritable,
  kWritableOrNull,
  kSize,             // of the memory before it, at least 1
  kSizeOrZero,       // of the memory before it
  kText,             // readable characters with a NUL among them
  kNumberOut,        // 8 writable, aligned bytes
  kContext,          // the context of this run
  kContextOrSocket,  // likewise; of programs whose context is no packet a socket, or null
  kFunction,         // a function of this program
  kLock,             // the bpf_spin_lock of a map value
  kTimer,            // the bpf_timer of a map value
  kWork,             // the bpf_wq of a map value
  kTask,             // a task (run_objects.h)
  kTaskOrNull,
  kCurrentTask,  // what bpf_get_current_task_btf() gave in this run
  kOwnTask,      // a task of which the program holds a reference
  kCgroup,
  kCgroupOrNull,
  kOwnCgroup,
  kSocketOrNull,
  kMapValueOrNull,  // as kMapValue
  kTaskWork,        // the bpf_task_work of a map value
  kMapOfField,      // the map that the field before it belongs to
  kResilientLock,   // the bpf_res_spin_lock of a map value
};

/// Which program types may call a helper: bits.
enum HelperTypes : uint16_t {
  kSocketFilter = 1,
  kKprobe = 2,
  kSched = 4,
  kTracepoint = 8,
  kXdp = 16,
  kCgroupSkb = 32,
  kRawTracepoint = 64,
  kSyscall = 128,
  kIterator = 256,
  kTracing = kKprobe | kTracepoint | kRawTracepoint,
  kSkb = kSocketFilter | kSched | kCgroupSkb,
  kEvery = kSkb | kXdp | kTracing | kSyscall | kIterator,
  kUntraced = kSkb | kXdp | kSyscall | kIterator,
  kTypedObjects = kSched | kXdp | kCgroupSkb | kTracepoint | kSyscall | kIterator,  // of tasks and cgroups by number
};

using HelperFunction = uint64_t (*)(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e);

/// One row of the table of helpers. Numbers, names and behaviour are those of Linux 6.18.
struct Helper {
  uint32_t id;
  const char* name;  // without "bpf_"
  uint16_t types;
  bool gpl_only;
  std::array<Argument, 5> arguments;
  HelperFunction function;
  bool under_locks = false;  // may be called while the program holds a lock
  bool sleeps = false;       // only for programs, and callbacks of work, that may
};

/// The helper of that number; null: the kernel has none, or skep does not have it yet.
const Helper* find_helper(uint32_t id);
/// The HelperTypes bit of a BPF_PROG_TYPE_*; 0 for a type that skep does not run.
uint16_t helper_type_bit(uint32_t program_type);

inline constexpr uint32_t kHelperMapLookup = 1;
inline constexpr uint32_t kHelperTailCall = 12;

}  // namespace skep
