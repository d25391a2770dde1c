// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>

#include "syscall/commands.h"

namespace skep {

Result<uint32_t> check_info_size(uint64_t user, uint32_t user_size, uint32_t known) {
  constexpr uint32_t kLargestInfo = 4096;
  if (user_size > kLargestInfo) return fail(E2BIG);
  if (user_size <= known) return user_size;
  unsigned char tail[kLargestInfo];
  const size_t length = user_size - known;
  if (!read_user(tail, user + known, length)) return fail(EFAULT);
  if (std::any_of(tail, tail + length, [](unsigned char byte) { return byte != 0; })) return fail(E2BIG);
  return known;
}

Answer finish_info(Caller& caller, const void* info, uint32_t size) {
  if (!write_user(caller.attr.info.info, info, size)) return fail(EFAULT);
  if (!caller.write_back(offsetof(bpf_attr, info.info_len), size)) return fail(EFAULT);
  return 0;
}

}  // namespace skep
