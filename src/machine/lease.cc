// SPDX-License-Identifier: Apache-2.0
#include "machine/lease.h"

#include <sched.h>

namespace skep {
namespace {

uint32_t running_cpu() {
  const int cpu = sched_getcpu();
  return cpu < 0 ? 0 : static_cast<uint32_t>(cpu);
}

}  // namespace

Lease::Lease(Machine& machine, AnyCpu)
    : machine_(&machine), slot_(machine.acquire_any_cpu(machine.thread_state(), running_cpu())), cpu_(slot_) {}

}  // namespace skep
