// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "btf/verifier_log.h"
#include "memory/result.h"

namespace skep {

/// The log of a load command, as the client asked for it.
struct LogBuffer {
  uint64_t user = 0;   // address of the client's buffer, 0: none
  uint32_t size = 0;   // bytes of it
  uint32_t level = 0;  // VerifierLog::k...

  /// EINVAL: a buffer without a size or a level, a level that does not exist, a size beyond VerifierLog::kMaxSize.
  [[nodiscard]] Status check() const;

  /// Copies what fits: the end of the text, or with VerifierLog::kFixed its beginning, and a NUL. ENOSPC: something did
  /// not fit; EFAULT. A level without a buffer asks for the size only.
  [[nodiscard]] Status finish(const VerifierLog& log) const;
};

}  // namespace skep
