// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "btf/kernel_btf.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {

/// Tests of iterator links: how they are made and read, on either side.
class LinkTest : public TwoFaces {
 protected:
  /// What recorder() writes for one element.
  struct Record {
    uint32_t number;
    uint32_t key;
    uint64_t value;
  };

  void SetUp() override {
    TwoFaces::SetUp();
    if (kernel_id("bpf_iter_bpf_map_elem") == 0) GTEST_SKIP() << "this kernel has no iterators over map elements";
  }
  void TearDown() override {
    for (const int fd : open_) ::close(fd);
  }
  int keep(int fd) {
    if (fd >= 0) open_.push_back(fd);
    return fd;
  }

  int map(Face& face, uint32_t type, uint32_t key = 4, uint32_t value = 8, uint32_t flags = 0) {
    return keep(face.call(BPF_MAP_CREATE, map_attr(type, key, value, 8, flags)));
  }
  int load(Face& face, std::vector<bpf_insn> code, const std::string& target = "bpf_iter_bpf_map_elem",
           uint32_t attach_type = BPF_TRACE_ITER, uint32_t flags = 0) {
    ProgramToLoad program;
    program.type = BPF_PROG_TYPE_TRACING;
    program.code = std::move(code);
    program.flags = flags;
    bpf_attr attr = program.attr();
    attr.expected_attach_type = attach_type;
    attr.attach_btf_id = target.empty() ? 0 : kernel_id(target);
    return keep(face.call(BPF_PROG_LOAD, attr));
  }
  /// The id that clients find for the function in the kernel's own types; 0: this kernel shows none.
  static uint32_t kernel_id(std::string_view function) {
    static const Result<KernelBtf> types = KernelBtf::read();
    return types ? types->find(BtfKind::kFunc, function) : 0;
  }
  static std::vector<bpf_insn> verdict(int32_t value) {
    return assembler::assemble({assembler::mov(assembler::r0, value), assembler::exit_()});
  }
  /// Writes a Record for each element, and 8 bytes with the number at the end.
  static std::vector<bpf_insn> recorder() {
    using namespace assembler;
    constexpr int32_t kSeqWrite = 127;
    return assemble({mov(r6, r1),
                     assembler::load(kDw, r7, r6, 0),
                     assembler::load(kDw, r8, r6, 16),
                     assembler::load(kDw, r9, r6, 24),
                     assembler::load(kDw, r3, r7, 16),
                     store(kDw, r10, -16, r3),
                     assembler::load(kDw, r1, r7, 0),
                     mov(r2, r10),
                     add(r2, -16),
                     mov(r3, 8),
                     jump_if(kJeq, r8, 0, 6),
                     jump_if(kJeq, r9, 0, 5),
                     assembler::load(kW, r4, r8, 0),
                     store(kW, r10, -12, r4),
                     assembler::load(kDw, r4, r9, 0),
                     store(kDw, r10, -8, r4),
                     mov(r3, 16),
                     call(kSeqWrite),
                     mov(r0, 0),
                     exit_()});
  }

  int link(Face& face, int program, int target, uint32_t info_size = sizeof(bpf_iter_link_info),
           uint32_t attach_type = BPF_TRACE_ITER, uint32_t target_fd = 0, uint32_t flags = 0) {
    std::array<char, 256> info{};
    std::memcpy(info.data(), &target, sizeof target);
    if (info_size == 65) info[40] = 1;
    bpf_attr attr = no_attr();
    attr.link_create.prog_fd = static_cast<uint32_t>(program);
    attr.link_create.target_fd = target_fd;
    attr.link_create.attach_type = attach_type;
    attr.link_create.flags = flags;
    attr.link_create.iter_info = info_size == 0 ? 0 : reinterpret_cast<uint64_t>(info.data());
    attr.link_create.iter_info_len = info_size;
    return keep(face.call(BPF_LINK_CREATE, attr));
  }
  int iterator(Face& face, int link, uint32_t flags = 0) {
    bpf_attr attr = no_attr();
    attr.iter_create.link_fd = static_cast<uint32_t>(link);
    attr.iter_create.flags = flags;
    return keep(face.call(BPF_ITER_CREATE, attr));
  }
  static int update(Face& face, int link, int program, uint32_t flags = 0, int old = 0) {
    bpf_attr attr = no_attr();
    attr.link_update.link_fd = static_cast<uint32_t>(link);
    attr.link_update.new_prog_fd = static_cast<uint32_t>(program);
    attr.link_update.flags = flags;
    attr.link_update.old_prog_fd = static_cast<uint32_t>(old);
    return face.call(BPF_LINK_UPDATE, attr);
  }
  static int detach(Face& face, int link) {
    bpf_attr attr = no_attr();
    attr.link_detach.link_fd = static_cast<uint32_t>(link);
    return face.call(BPF_LINK_DETACH, attr);
  }
  /// What reading the link's iterator gives; an error: of either call.
  std::string text_of(Face& face, int link) {
    const int fd = iterator(face, link);
    std::string text(1 << 16, '\0');
    size_t size = 0;
    ssize_t got = 0;
    while (fd >= 0 && (got = ::read(fd, text.data() + size, text.size() - size)) > 0) size += static_cast<size_t>(got);
    if (fd < 0 || got < 0) return "errno " + std::to_string(fd < 0 ? -fd : errno);
    return text.substr(0, size);
  }

 private:
  std::vector<int> open_;
};

}  // namespace skep
