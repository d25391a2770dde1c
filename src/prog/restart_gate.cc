// SPDX-License-Identifier: Apache-2.0
#include "prog/restart_gate.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace skep {
namespace {

/// Far longer than any processor keeps a store to itself; a thread that is switched out keeps none.
constexpr long kStoresDrain = 2'000'000;  // ns

bool membarrier(int command) { return ::syscall(SYS_membarrier, command, 0, 0) == 0; }

}  // namespace

void RestartGate::open() {
  if (barrier_ == Barrier::kUnknown) {
    barrier_ = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) ? Barrier::kWorks : Barrier::kFails;
  }
  if (barrier_ == Barrier::kWorks) open_.store(true, std::memory_order_release);  // pairs with pass()
}

void RestartGate::close_open() {
  open_.store(false, std::memory_order_seq_cst);
  earned_ = 0;
  if (!membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) {
    barrier_ = Barrier::kFails;
    const timespec wait = {0, kStoresDrain};
    ::nanosleep(&wait, nullptr);
  }
  for (uint32_t cpu = 0; cpu < cpus_; ++cpu) {
    while (lanes_[cpu].passes.load(std::memory_order_seq_cst) != 0) ::sched_yield();
  }
}

void RestartGate::begin_anew() {
  open_.store(false);
  for (uint32_t cpu = 0; cpu < cpus_; ++cpu) lanes_[cpu].passes.store(0);
  earned_ = 0;
  barrier_ = Barrier::kUnknown;
}

}  // namespace skep
