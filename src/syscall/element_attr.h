// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <cstddef>
#include <cstdint>

#include "syscall/user_memory.h"

namespace skep {

/// What the commands on one element find in their attr. Bytes 4 to 7 are padding, which nobody looks at.
struct ElementAttr {
  uint32_t map_fd;
  uint64_t key;
  uint64_t value;  // or next_key
  uint64_t flags;
};
inline constexpr uint32_t kElementAttrEnd = 32;
static_assert(offsetof(bpf_attr, map_fd) == 0 && offsetof(bpf_attr, key) == 8 && offsetof(bpf_attr, value) == 16 &&
              offsetof(bpf_attr, next_key) == 16 && offsetof(bpf_attr, flags) == 24);

/// Reads them from a client's attr of at least kElementAttrEnd bytes, all of which are plausible. False: EFAULT.
///
/// Each field by one load of its own width: clients zero the attr with wide stores and then write map_fd with a narrow
/// one; a wide load over both would wait until both have left the store buffer.
[[gnu::always_inline]] inline bool read_element_attr(ElementAttr& to, uint64_t user) {
#if defined(__x86_64__)
  bool fault;
  asm volatile(SKEP_USER_MOVES("movl (%[user]), %[map_fd]\nmovq 8(%[user]), %[key]\nmovq 16(%[user]), %[value]\n"
                               "movq 24(%[user]), %[flags]")
               : [map_fd] "=&r"(to.map_fd), [key] "=&r"(to.key), [value] "=&r"(to.value), [flags] "=&r"(to.flags),
                 "=@ccc"(fault)
               : [user] "r"(user)
               : "memory");
  return !fault;
#else
  return read_user(&to.map_fd, user, sizeof to.map_fd) &&
         read_user(&to.key, user + 8, kElementAttrEnd - 8);  // the three words stand one after the other here too
#endif
}

}  // namespace skep
