// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace skep::testing {

/// The kernel's own bpf(2), for tests that compare. Touches nothing but the programs and maps made here.
class KernelProgram {
 public:
  KernelProgram(std::span<const bpf_insn> code, uint32_t type) {
    bpf_attr attr;
    std::memset(&attr, 0, sizeof attr);
    attr.prog_type = type;
    attr.insn_cnt = static_cast<uint32_t>(code.size());
    attr.insns = reinterpret_cast<uint64_t>(code.data());
    attr.license = reinterpret_cast<uint64_t>("GPL");
    attr.prog_flags = type == BPF_PROG_TYPE_SYSCALL ? BPF_F_SLEEPABLE : 0;
    log_.resize(1 << 16);
    attr.log_level = 1;
    attr.log_size = static_cast<uint32_t>(log_.size());
    attr.log_buf = reinterpret_cast<uint64_t>(log_.data());
    fd_ = static_cast<int>(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr));
    error_ = fd_ < 0 ? errno : 0;
  }
  KernelProgram(const KernelProgram&) = delete;
  KernelProgram& operator=(const KernelProgram&) = delete;
  ~KernelProgram() {
    if (fd_ >= 0) close(fd_);
  }

  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] std::string log() const { return log_.data(); }

  struct TestRun {
    int error = 0;
    uint32_t value = 0;
    std::vector<std::byte> data;  // the packet afterwards
  };
  /// SYSCALL programs: on `context`, which is changed in place.
  TestRun run(std::span<std::byte> context) const {
    bpf_attr attr;
    std::memset(&attr, 0, sizeof attr);
    attr.test.prog_fd = static_cast<uint32_t>(fd_);
    attr.test.ctx_in = reinterpret_cast<uint64_t>(context.data());
    attr.test.ctx_size_in = static_cast<uint32_t>(context.size());
    return finish(attr);
  }
  /// Packet programs: on a packet.
  TestRun run_packet(std::span<const std::byte> packet) const {
    std::vector<std::byte> out(packet.size() + 1024);
    bpf_attr attr;
    std::memset(&attr, 0, sizeof attr);
    attr.test.prog_fd = static_cast<uint32_t>(fd_);
    attr.test.data_in = reinterpret_cast<uint64_t>(packet.data());
    attr.test.data_size_in = static_cast<uint32_t>(packet.size());
    attr.test.data_out = reinterpret_cast<uint64_t>(out.data());
    attr.test.data_size_out = static_cast<uint32_t>(out.size());
    TestRun result = finish(attr);
    out.resize(std::min<size_t>(attr.test.data_size_out, out.size()));
    result.data = std::move(out);
    return result;
  }

 private:
  static TestRun finish(bpf_attr& attr) {
    TestRun result;
    if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof attr) != 0) result.error = errno;
    result.value = attr.test.retval;
    return result;
  }

  int fd_ = -1;
  int error_ = 0;
  std::string log_;
};

/// An array of one element that programs may only read, frozen: what string arguments of helpers must lie in.
class KernelMap {
 public:
  KernelMap(const void* value, uint32_t value_size) {
    bpf_attr attr;
    std::memset(&attr, 0, sizeof attr);
    attr.map_type = BPF_MAP_TYPE_ARRAY;
    attr.key_size = 4;
    attr.value_size = value_size;
    attr.max_entries = 1;
    attr.map_flags = BPF_F_RDONLY_PROG;
    fd_ = static_cast<int>(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr));
    const uint32_t key = 0;
    std::memset(&attr, 0, sizeof attr);
    attr.map_fd = static_cast<uint32_t>(fd_);
    attr.key = reinterpret_cast<uint64_t>(&key);
    attr.value = reinterpret_cast<uint64_t>(value);
    syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof attr);
    std::memset(&attr, 0, sizeof attr);
    attr.map_fd = static_cast<uint32_t>(fd_);
    syscall(SYS_bpf, BPF_MAP_FREEZE, &attr, sizeof attr);
  }
  KernelMap(const KernelMap&) = delete;
  KernelMap& operator=(const KernelMap&) = delete;
  ~KernelMap() { close(fd_); }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

/// Why the kernel cannot be asked here; "" when it can.
inline std::string kernel_refuses() {
  const bpf_insn code[] = {{0xb7, 0, 0, 0, 0}, {0x95, 0, 0, 0, 0}};
  const KernelProgram probe(code, BPF_PROG_TYPE_SYSCALL);
  return probe.error() == 0 ? "" : std::string("the kernel refuses bpf(2) here: ") + std::strerror(probe.error());
}

}  // namespace skep::testing
