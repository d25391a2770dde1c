// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "prog/assembler.h"
#include "syscall/two_faces.h"

namespace skep {

/// What a test loads; the log stays readable after load().
struct ProgramToLoad {
  uint32_t type = BPF_PROG_TYPE_SOCKET_FILTER;
  std::vector<bpf_insn> code;
  const char* license = "GPL";
  uint32_t flags = 0;
  std::string log = std::string(4096, '\0');

  [[nodiscard]] bpf_attr attr() {
    bpf_attr attr = no_attr();
    attr.prog_type = type;
    attr.insn_cnt = static_cast<uint32_t>(code.size());
    attr.insns = reinterpret_cast<uint64_t>(code.data());
    attr.license = reinterpret_cast<uint64_t>(license);
    attr.prog_flags = flags;
    return attr;
  }
  int load(Face& face) {
    bpf_attr whole = attr();
    return face.call(BPF_PROG_LOAD, whole);
  }
  /// Loads with a log, which is left in `log`.
  int load_with_log(Face& face) {
    bpf_attr whole = attr();
    whole.log_level = 1;
    whole.log_size = static_cast<uint32_t>(log.size());
    whole.log_buf = reinterpret_cast<uint64_t>(log.data());
    return face.call(BPF_PROG_LOAD, whole);
  }
};

inline ProgramToLoad program(std::initializer_list<assembler::Code> code, uint32_t type = BPF_PROG_TYPE_SOCKET_FILTER) {
  ProgramToLoad result;
  result.type = type;
  result.code = assembler::assemble(code);
  if (type == BPF_PROG_TYPE_SYSCALL) result.flags = BPF_F_SLEEPABLE;
  return result;
}

/// A program that returns `value`.
inline ProgramToLoad returning(int32_t value, uint32_t type = BPF_PROG_TYPE_SOCKET_FILTER) {
  return program({assembler::mov(assembler::r0, value), assembler::exit_()}, type);
}

inline bpf_attr run_attr(int fd) {
  bpf_attr attr = no_attr();
  attr.test.prog_fd = static_cast<uint32_t>(fd);
  attr.test.retval = 0xdead;
  return attr;
}

/// Information of a program; what the test asks for (lists, record sizes) stands in `info` beforehand.
inline int program_info(Face& face, int fd, bpf_prog_info& info) {
  bpf_attr attr = no_attr();
  attr.info.bpf_fd = static_cast<uint32_t>(fd);
  attr.info.info_len = sizeof info;
  attr.info.info = reinterpret_cast<uint64_t>(&info);
  return face.call(BPF_OBJ_GET_INFO_BY_FD, attr);
}
inline bpf_prog_info no_info() {
  bpf_prog_info info;
  std::memset(&info, 0, sizeof info);
  return info;
}

}  // namespace skep
