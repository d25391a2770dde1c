// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "storage/owner_layout.h"

namespace skep {

/// Says, while it lives, that this thread is inside an operation on the storage of that kind of owner: the counters by
/// which Linux 6.18 keeps programs from changing what the operation that they interrupt is changing. A program holds
/// its CPU to itself here, so a thread's counter is what the kernel's CPU's is.
class StorageBusy {
 public:
  explicit StorageBusy(OwnerKind kind) : count_(counts_[static_cast<size_t>(kind)]), first_(count_ == 0) { ++count_; }
  ~StorageBusy() { --count_; }
  StorageBusy(const StorageBusy&) = delete;
  StorageBusy& operator=(const StorageBusy&) = delete;

  /// Whether this operation is inside no other one.
  [[nodiscard]] bool first() const { return first_; }

 private:
  inline static constinit thread_local std::array<uint32_t, kOwnerKinds> counts_ [[gnu::tls_model("initial-exec")]]{};
  uint32_t& count_;
  const bool first_;
};

}  // namespace skep
