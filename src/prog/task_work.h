// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "prog/runtime.h"

namespace skep {

/// The 8 bytes of a struct bpf_task_work in a map's value: 0, or | process tag (32) | serial (32) | of the work that a
/// thread of that process is going to do, or does. Who ends the value stores 0 (FieldGaps::release()).
using TaskWorkField = std::atomic<uint64_t>;
static_assert(sizeof(TaskWorkField) == 8 && TaskWorkField::is_always_lock_free);

/// What it is: callbacks that programs leave for the end of their run: what one thread does on its way back to whoever
///   ran the program. The kernel's is the way of a task back to user space; the only task that a program here can name
///   is the one that runs it.
/// Operations: schedule (in a run), run_all (after it).
/// Invariant: a callback begins only while its field names it. The field is free again when it has ended.
/// Threads: belongs to one. Fields are shared by all processes; one that names a dead process is free.
class TaskWork {
 public:
  /// Where the field is, and what to do.
  struct Item {
    TaskWorkField* field;
    void* value;  // of the map's element
    const MapBinding* map;
    std::shared_ptr<const DecodedCode> code;
    std::shared_ptr<const MapBinding> inner;  // where the map is not one that the code names
    uint32_t function;                        // index of the callback's first instruction
    uint64_t word = 0;                        // what the field holds meanwhile
  };

  /// 0, or -EBUSY: the field has work already, or its map has no users.
  int64_t schedule(Item item, Machine& machine, const RunEnvironment& environment);

  [[nodiscard]] bool empty() const { return items_.empty(); }
  /// Does it all, also what the callbacks add: as in the kernel, work that leaves itself anew each time keeps its
  /// thread for as long as it does so. Not under a lease.
  void run_all(Runner& runner, Machine& machine, const RunEnvironment& environment);
  /// Does what was left before, and leaves what the callbacks add for the next time: for a thread that has other things
  /// to do as well. Not under a lease.
  void run_round(Runner& runner, Machine& machine, const RunEnvironment& environment);

 private:
  static void run_one(const Item& item, Runner& runner, Machine& machine, const RunEnvironment& environment);

  std::vector<Item> items_;
};

}  // namespace skep
