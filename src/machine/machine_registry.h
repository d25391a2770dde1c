// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "machine/machine.h"
#include "machine/machine_file.h"
#include "machine/quiet_mutex.h"

namespace skep {

/// The machines of this process: one per machine file. Also where fork(2) and the end of a thread find them.
///
/// Its mutex is the outermost of the machine layer; a fork handler holds it across fork(2).
class MachineRegistry {
 public:
  static MachineRegistry& instance();

  QuietMutex& mutex() { return mutex_; }
  // All of these with mutex() held.
  std::shared_ptr<Machine> find(const MachineFile& file);
  void add(const std::shared_ptr<Machine>& machine);
  void remove(const Machine* machine);
  [[nodiscard]] Machine* find_serial(uint64_t serial) const;

 private:
  struct Entry {
    Machine* machine;
    std::weak_ptr<Machine> owner;
  };
  MachineRegistry();
  static void before_fork();
  static void after_fork_in_parent();
  static void after_fork_in_child();

  QuietMutex mutex_;
  std::vector<Entry> entries_;
};

}  // namespace skep
