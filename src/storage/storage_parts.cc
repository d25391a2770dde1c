// SPDX-License-Identifier: Apache-2.0
#include "storage/storage_parts.h"

#include <pthread.h>

#include <algorithm>
#include <map>

#include "machine/quiet_mutex.h"

namespace skep {
namespace {

struct Registry {
  QuietMutex mutex;
  std::map<const Machine*, StorageParts> machines;
};

/// Never destroyed: threads end, and let go of what they own, until the process is gone. Made at load, before the locks
/// that are held when it is locked: fork(2) locks those first that were registered last.
[[gnu::constructor]] void register_early();
Registry& registry() {
  static Registry& only = *[] {
    pthread_atfork([] { registry().mutex.lock(); }, [] { registry().mutex.unlock(); },
                   [] { registry().mutex.unlock(); });
    return new Registry;
  }();
  return only;
}
void register_early() { registry(); }

}  // namespace

StorageParts::Locked::Locked() { registry().mutex.lock(); }
StorageParts::Locked::~Locked() { registry().mutex.unlock(); }

StorageParts& StorageParts::of(Machine& machine) {
  const Locked locked;
  return registry().machines[&machine];
}

void StorageParts::remove(const Slab* cells) {
  const Locked locked;
  std::erase_if(parts_, [&](const StoragePart& part) { return part.cells == cells; });
}

}  // namespace skep
