// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "prog/run.h"

namespace skep::helpers {

/// Whether a helper may make a dynptr at `place`; otherwise the run is stopped.
bool may_become_dynptr(Run& run, uint64_t place);
/// The dynptr at `place`; null: there is none, and the run is stopped.
Dynptr* dynptr_argument(Run& run, uint64_t place);

}  // namespace skep::helpers
