// SPDX-License-Identifier: Apache-2.0
#include "machine/machine_registry.h"

#include <pthread.h>

#include "machine/process_side.h"
#include "machine/thread_states.h"

namespace skep {

MachineRegistry& MachineRegistry::instance() {
  static auto* const registry = new MachineRegistry;  // never destroyed: threads may end after static destructors ran
  return *registry;
}

namespace {

/// At load: handlers that fork(2) calls run from the last registered to the first, so that locks which are taken with
/// others held must be registered before those.
[[gnu::constructor]] void register_early() { MachineRegistry::instance(); }

}  // namespace

MachineRegistry::MachineRegistry() { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }

std::shared_ptr<Machine> MachineRegistry::find(const MachineFile& file) {
  for (const Entry& entry : entries_) {
    if (entry.machine->side_->file == file) {
      if (auto machine = entry.owner.lock()) return machine;
    }
  }
  return nullptr;
}

void MachineRegistry::add(const std::shared_ptr<Machine>& machine) { entries_.push_back({machine.get(), machine}); }

void MachineRegistry::remove(const Machine* machine) {
  std::erase_if(entries_, [machine](const Entry& entry) { return entry.machine == machine; });
}

Machine* MachineRegistry::find_serial(uint64_t serial) const {
  for (const Entry& entry : entries_) {
    if (entry.machine->serial_ == serial) return entry.machine;
  }
  return nullptr;
}

void MachineRegistry::before_fork() {
  instance().mutex_.lock();
  for (const Entry& entry : instance().entries_) entry.machine->side_->deferred.mutex().lock();
}

void MachineRegistry::after_fork_in_parent() {
  for (const Entry& entry : instance().entries_) entry.machine->side_->deferred.mutex().unlock();
  instance().mutex_.unlock();
}

void MachineRegistry::after_fork_in_child() {
  for (const Entry& entry : instance().entries_) {
    Machine::ProcessSide& side = *entry.machine->side_;
    side.deferred.mutex().unlock();
    // Other threads of the parent do not exist here, and the lock on the file is not the child's.
    for (auto& thread : side.recovering) thread.store(nullptr, std::memory_order_relaxed);
    side.separate_from_parent();
    leave_to_parent(entry.machine->serial_, ProcessTag{side.tag.load(std::memory_order_relaxed)});
  }
  instance().mutex_.unlock();
}

}  // namespace skep
