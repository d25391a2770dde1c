// SPDX-License-Identifier: Apache-2.0
#include <cerrno>

#include "prog/helpers.h"
#include "prog/task_work.h"

namespace skep::helpers {

uint64_t task_work_schedule(Run& run, uint64_t, uint64_t b, uint64_t, uint64_t d, uint64_t) {
  TaskWork* const work = run.environment().task_work;
  if (work == nullptr) return int_value(-EOPNOTSUPP);
  return int_value(
      work->schedule(run.task_work_at(b, *memory<const FunctionEntry>(d)), run.lease().machine(), run.environment()));
}

}  // namespace skep::helpers
