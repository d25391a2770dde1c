// SPDX-License-Identifier: Apache-2.0
#include "syscall/log_buffer.h"

#include <algorithm>

#include "syscall/user_memory.h"

namespace skep {

Status LogBuffer::check() const {
  constexpr uint32_t kLevels = VerifierLog::kLevel1 | VerifierLog::kLevel2 | VerifierLog::kStats | VerifierLog::kFixed;
  if ((user != 0) != (size != 0)) return fail(EINVAL);
  if (user != 0 && level == 0) return fail(EINVAL);
  if ((level & ~kLevels) != 0 || size > VerifierLog::kMaxSize) return fail(EINVAL);
  return {};
}

Status LogBuffer::finish(const VerifierLog& log) const {
  if (level == 0) return {};
  const std::string& text = log.text();
  if (user != 0) {
    const size_t fits = std::min<size_t>(text.size(), size - 1);
    const size_t from = (level & VerifierLog::kFixed) != 0 ? 0 : text.size() - fits;
    if (!write_user(user, text.data() + from, fits) || !write_user(user + fits, "", 1)) return fail(EFAULT);
  }
  return user != 0 && log.true_size() > size ? Status(fail(ENOSPC)) : Status{};
}

}  // namespace skep
