// SPDX-License-Identifier: Apache-2.0
#include "syscall/process.h"

#include <pthread.h>

#include <mutex>

#include "prog/timers.h"
#include "syscall/last_user.h"
#include "syscall/opened_references.h"
#include "syscall/prog_commands_run.h"

namespace skep {
namespace {

std::atomic<bool> closes_are_reported{false};

// Held across fork(2), so that the child never meets one that a thread of its parent held.
QuietMutex& opening() {
  static QuietMutex* const mutex = [] {
    // fork(2) locks those first that were registered last: this one, under which the others are taken.
    Timers::watch_forks();
    watch_forks_of_references();
    FdTable::watch_forks();
    ::pthread_atfork([] { opening().lock(); }, [] { opening().unlock(); }, [] { opening().unlock(); });
    return new QuietMutex;
  }();
  return *mutex;
}

}  // namespace

Process::Process(std::shared_ptr<Instance> whose)
    : instance(std::move(whose)),
      references(make_program_references(*this)),
      timer_trace(std::make_unique<TraceFile>(*instance)),
      timers(std::make_unique<Timers>(machine,
                                      RunEnvironment{.trace = timer_trace.get(), .references = references.get()})) {
  install_user_fault_handlers();
  instance->visit_unused([this](uint32_t id) { map_lost_its_users(*this, id); });
}
Process::~Process() = default;

constinit std::atomic<Process*> the_default_process{nullptr};

Process* open_default_process() {
  const std::scoped_lock lock(opening());
  if (Process* process = the_default_process.load(std::memory_order_relaxed)) return process;
  Result<std::shared_ptr<Instance>> instance = Instance::open(Instance::default_directory());
  if (!instance) return nullptr;
  auto* process = new Process(*std::move(instance));
  if (closes_are_reported.load()) process->descriptors.trust();
  the_default_process.store(process, std::memory_order_release);  // pairs with default_process()
  return process;
}

void skep_trust_descriptors() {
  closes_are_reported.store(true);
  const std::scoped_lock lock(opening());
  if (Process* process = the_default_process.load()) process->descriptors.trust();
}

}  // namespace skep
