// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "machine/machine.h"

namespace skep {

/// A read-side critical section that writes nothing shared: what was reachable when it began stays mapped and reserved
/// until it ends. Costs two plain stores to a cache line of this thread. Nests. Whoever waits for readers pays the
/// memory barrier instead (membarrier(2)).
class ReaderSection {
 public:
  explicit ReaderSection(Machine& machine);
  ReaderSection(const ReaderSection&) = delete;
  ReaderSection& operator=(const ReaderSection&) = delete;
  ~ReaderSection();

 private:
  ReaderRecord* record_;  // null: nested, or this thread holds a lease
};

}  // namespace skep
