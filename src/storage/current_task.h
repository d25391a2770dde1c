// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "storage/owners.h"

namespace skep {

/// The calling thread as an owner of those owners; number 0: it is none yet and `make` is false, or it cannot be made
/// one. Costs a comparison once it was found. At the end of the thread the owner is destroyed; of the process's first
/// thread it is not, because a zombie's storage can still be used. A forked child is another task.
Result<Owner> find_current_task(const Lease& lease, Owners& owners, bool make);

namespace detail {
struct CurrentTask {
  const Owners* owners = nullptr;
  Owner owner;
};
extern constinit thread_local CurrentTask t_current_task [[gnu::tls_model("initial-exec")]];
Result<Owner> find_current_task_slowly(const Lease& lease, Owners& owners, bool make);
}  // namespace detail

inline Result<Owner> find_current_task(const Lease& lease, Owners& owners, bool make) {
  const detail::CurrentTask& known = detail::t_current_task;
  if (known.owners == &owners && known.owner.record->number.load(std::memory_order_relaxed) == known.owner.number)
      [[likely]]
    return known.owner;
  return detail::find_current_task_slowly(lease, owners, make);
}

}  // namespace skep
