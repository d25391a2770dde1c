// SPDX-License-Identifier: Apache-2.0
#include "machine/reader_barrier.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace skep {
namespace {

/// Far longer than any processor keeps a store to itself; a thread that is switched out keeps none.
constexpr long kStoresDrainNanoseconds = 2'000'000;

bool membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0) == 0; }

}  // namespace

void ReaderBarrier::start(EpochLine& epochs) {
  if (membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)) return;
  demand_fences(epochs);
}

void ReaderBarrier::issue(EpochLine& epochs) {
  if (membarrier_works_.load(std::memory_order_relaxed)) {
    if (membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)) return;
    demand_fences(epochs);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with the readers' own fences
}

void ReaderBarrier::demand_fences(EpochLine& epochs) {
  membarrier_works_.store(false, std::memory_order_relaxed);
  epochs.need_fences.store(1, std::memory_order_seq_cst);
  // A reader that did not see the flag announced itself before it looked; that store is out when the wait is over.
  const timespec wait = {0, kStoresDrainNanoseconds};
  nanosleep(&wait, nullptr);
}

}  // namespace skep
