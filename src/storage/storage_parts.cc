// SPDX-License-Identifier: Apache-2.0
#include "storage/storage_parts.h"

#include <pthread.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace skep {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<const Machine*, StorageParts> machines;
};

/// Never destroyed: threads end, and let go of what they own, until the process is gone.
Registry& registry() {
  static Registry& only = *[] {
    pthread_atfork([] { registry().mutex.lock(); }, [] { registry().mutex.unlock(); },
                   [] { registry().mutex.unlock(); });
    return new Registry;
  }();
  return only;
}

}  // namespace

StorageParts::Locked::Locked() { registry().mutex.lock(); }
StorageParts::Locked::~Locked() { registry().mutex.unlock(); }

StorageParts& StorageParts::of(Machine& machine) {
  const Locked locked;
  return registry().machines[&machine];
}

void StorageParts::add(const StoragePart& part) {
  const Locked locked;
  parts_.push_back(part);
}

void StorageParts::remove(const Slab* cells) {
  const Locked locked;
  std::erase_if(parts_, [&](const StoragePart& part) { return part.cells == cells; });
}

}  // namespace skep
