// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/map.h>

#include <memory>
#include <new>

#include "maps/map.h"
#include "object/instance.h"

struct skep_instance {
  std::shared_ptr<skep::Instance> instance;
};

/// A map that this process has mapped. The mapping holds the reference to the object; there is no descriptor.
struct skep_map {
  std::shared_ptr<skep::Instance> instance;  // declared before `map`, which uses its machine to the end
  std::unique_ptr<skep::Map> map;
  uint32_t id;
  bool writable;
  bool per_cpu;
};

namespace skep {

/// The C ABI's way to say a status.
inline int to_code(const Status& status) { return status ? 0 : -to_int(status.error()); }

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
