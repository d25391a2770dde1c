// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/map.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <new>
#include <utility>

#include "maps/map.h"
#include "maps/storage_map.h"
#include "object/instance.h"
#include "storage/owners.h"

struct skep_instance {
  explicit skep_instance(std::shared_ptr<skep::Instance> opened) : instance(std::move(opened)) {}
  ~skep_instance() { delete owners.load(std::memory_order_relaxed); }
  skep_instance(const skep_instance&) = delete;
  skep_instance& operator=(const skep_instance&) = delete;

  const std::shared_ptr<skep::Instance> instance;
  std::atomic<uint32_t> uses{1};  // handles that were given out and not closed
  /// From the first owner on; whoever stores it does so once, for the readers' acquire.
  std::atomic<std::shared_ptr<skep::Owners>*> owners{nullptr};
};

/// A map that this process has mapped. The mapping holds the reference to the object; there is no descriptor.
struct skep_map {
  std::shared_ptr<skep::Instance> instance;  // declared before `map`, which uses its machine to the end
  std::unique_ptr<skep::Map> map;
  skep::StorageMap* storage;  // the same map if it is one of local storage, else null
  uint32_t id;
  bool writable;
  bool per_cpu;
};

namespace skep {

/// The C ABI's way to say a status.
inline int to_code(const Status& status) { return status ? 0 : -to_int(status.error()); }

/// Whether the handle and the map let the user side write.
inline int write_error(const skep_map* map) {
  return map->writable && map->map->header().frozen.load(std::memory_order_relaxed) == 0 ? 0 : -EPERM;
}

/// Runs `body`; no exception crosses the ABI.
template <class Body>
auto guarded(const Body& body) noexcept -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  } catch (...) {
    return -EIO;
  }
}

}  // namespace skep
