// SPDX-License-Identifier: Apache-2.0
#include "side.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace skep::oracle {

int kernel_bpf(int command, union bpf_attr* attr, unsigned int size) {
  return static_cast<int>(syscall(SYS_bpf, command, attr, size));
}

std::string kernel_refuses() {
  union bpf_attr attr = {};
  attr.map_type = BPF_MAP_TYPE_LPM_TRIE;  // needs CAP_BPF even where unprivileged bpf(2) is open
  attr.key_size = 8;
  attr.value_size = 8;
  attr.max_entries = 1;
  attr.map_flags = BPF_F_NO_PREALLOC;
  const int fd = kernel_bpf(BPF_MAP_CREATE, &attr, sizeof attr);
  if (fd < 0) return std::string("the kernel refuses bpf(2): ") + strerror(errno);
  close(fd);
  return "";
}

}  // namespace skep::oracle
