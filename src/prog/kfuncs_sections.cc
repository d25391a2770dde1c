// SPDX-License-Identifier: Apache-2.0
// Read-side sections, as kernel functions. A program runs under a lease from its first instruction to its last, which
// keeps everything that it can reach as such a section does; so one inside it has nothing to add.
#include "prog/helpers.h"

namespace skep::helpers {

uint64_t rcu_read_lock(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) { return 0; }

uint64_t rcu_read_unlock(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) { return 0; }

}  // namespace skep::helpers
