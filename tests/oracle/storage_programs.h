// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "btf/kernel_btf.h"
#include "sample_btf.h"
#include "syscall/prog_commands_test_support.h"

namespace skep::oracle {

/// A program of straight lines that says what each step gave it, a word a step, in the one element of an array (R9).
/// R6 is the owner of the storage, R8 a pointer that a step kept.
class StorageSteps {
 public:
  static constexpr int kWords = 32;
  static constexpr int32_t kTaskGet = 156, kTaskDelete = 157, kSocketGet = 107, kSocketDelete = 108, kCgroupGet = 210,
                           kCgroupDelete = 211, kCurrentTask = 158, kCookie = 46;

  StorageSteps(uint32_t type, int map, int said, int32_t get, int32_t erase)
      : map_(static_cast<uint32_t>(map)), get_(get), erase_(erase) {
    out_.type = type;
    if (type == BPF_PROG_TYPE_SYSCALL) out_.flags = BPF_F_SLEEPABLE;
    add({assembler::mov(assembler::r7, assembler::r1),
         assembler::load_map_value(assembler::r9, static_cast<uint32_t>(said), 0)});
  }

  void add(std::initializer_list<assembler::Code> codes) {
    const auto more = assembler::assemble(codes);
    out_.code.insert(out_.code.end(), more.begin(), more.end());
  }
  /// Says R1.
  void say() { add({assembler::store(assembler::kDw, assembler::r9, 8 * words_++, assembler::r1)}); }
  void say_result() {
    add({assembler::mov(assembler::r1, assembler::r0)});
    say();
  }
  /// Ends the program where R0 is null.
  void need() {
    add({assembler::jump_if(assembler::kJne, assembler::r0, 0, 2), assembler::mov(assembler::r0, 0),
         assembler::exit_()});
  }

  /// The value of R6 in the map, or ~0 for null. Without `initial` the argument is null.
  void get(uint64_t flags, std::optional<int32_t> initial = {}) {
    call_get(flags, initial);
    using namespace assembler;
    add({mov(r1, -1), jump_if(kJeq, r0, 0, 1), load(kDw, r1, r0, 0)});
    say();
  }
  /// Keeps the pointer; the program ends where it is null.
  void keep() {
    call_get(1, {});
    need();
    add({assembler::mov(assembler::r8, assembler::r0)});
  }
  void say_kept() {
    add({assembler::load(assembler::kDw, assembler::r1, assembler::r8, 0)});
    say();
  }
  void write_kept(int32_t value) { add({assembler::store(assembler::kDw, assembler::r8, 0, value)}); }
  void erase() {
    using namespace assembler;
    add({load_map(r1, map_), mov(r2, r6), call(erase_)});
    say_result();
  }

  ProgramToLoad finish() {
    add({assembler::mov(assembler::r0, 0), assembler::exit_()});
    return out_;
  }

 private:
  void call_get(uint64_t flags, std::optional<int32_t> initial) {
    using namespace assembler;
    if (initial) {
      add({store(kDw, r10, -8, *initial), mov(r3, r10), add_(r3, -8)});
    } else {
      add({mov(r3, 0)});
    }
    add({load_map(r1, map_), mov(r2, r6), load_imm64(r4, flags), call(get_)});
  }
  static assembler::Code add_(assembler::Register to, int32_t imm) { return assembler::add(to, imm); }

  ProgramToLoad out_;
  uint32_t map_;
  int32_t get_, erase_;
  int words_ = 0;
};

/// Maps of storage and programs on them, on the kernel and on skep.
class StorageProgramsTest : public TwoFaces {
 protected:
  using Said = std::array<uint64_t, StorageSteps::kWords>;
  static constexpr uint64_t kUnsaid = 0x7777;

  static const KernelBtf& kernel_types() {
    static const auto types = KernelBtf::read();
    return *types;
  }
  static uint32_t function(const char* name) { return kernel_types().find(BtfKind::kFunc, name); }
  static int offset(const char* structure, const char* member) {
    const auto where = kernel_types().member(kernel_types().find(BtfKind::kStruct, structure), member);
    return where ? static_cast<int>(where->offset) : -1;
  }
  void SetUp() override {
    TwoFaces::SetUp();
    if (!KernelBtf::read()) GTEST_SKIP() << "this host does not show its kernel's types";
  }

  static int storage(Face& face, uint32_t type) {
    const auto raw = sample_btf();
    bpf_attr types = no_attr();
    types.btf = reinterpret_cast<uint64_t>(raw.data());
    types.btf_size = static_cast<uint32_t>(raw.size());
    const int btf = face.call(BPF_BTF_LOAD, types);
    bpf_attr attr = map_attr(type, 4, 8, 0, BPF_F_NO_PREALLOC);
    attr.btf_fd = static_cast<uint32_t>(btf);
    attr.btf_key_type_id = kU32;
    attr.btf_value_type_id = kU64;
    const int map = face.call(BPF_MAP_CREATE, attr);
    ::close(btf);
    EXPECT_GE(map, 0) << last_error_sentence();
    return map;
  }
  static int answers(Face& face) { return face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, sizeof(Said), 1)); }
  /// Loads the program; fails the test with the verifier's log otherwise.
  static int load_program(Face& face, ProgramToLoad program, const std::string& what) {
    program.log.resize(1 << 16);
    const int fd = program.load_with_log(face);
    EXPECT_GE(fd, 0) << what << (face.is_kernel() ? " kernel: " : " skep: ") << program.log.c_str();
    return fd;
  }
  /// Runs it once and gives what it said; what it did not say is kUnsaid.
  static Said run(Face& face, int program, uint32_t type, int said, const std::string& what) {
    Said words;
    words.fill(kUnsaid);
    const uint32_t zero = 0;
    EXPECT_EQ(face.call(BPF_MAP_UPDATE_ELEM, element_attr(said, &zero, words.data())), 0);
    std::array<char, 64> packet{};
    bpf_attr attr = run_attr(program);
    if (type != BPF_PROG_TYPE_RAW_TRACEPOINT && type != BPF_PROG_TYPE_SYSCALL) {
      attr.test.data_in = reinterpret_cast<uint64_t>(packet.data());
      attr.test.data_size_in = packet.size();
    }
    EXPECT_EQ(face.call(BPF_PROG_TEST_RUN, attr), 0) << what << " " << last_error_sentence();
    EXPECT_EQ(face.call(BPF_MAP_LOOKUP_ELEM, element_attr(said, &zero, words.data())), 0);
    return words;
  }
  static void note(Face& face, const std::string& what, const Said& said) {
    for (size_t i = 0; i < said.size(); ++i) {
      if (said[i] != kUnsaid) face.note(what + " step " + std::to_string(i), static_cast<int64_t>(said[i]));
    }
  }
  /// What a client sees of the owner behind that descriptor: the value, or the errno, negative.
  static int64_t seen(Face& face, int map, int owner) {
    uint64_t value = 0;
    const int result = face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &owner, &value));
    return result < 0 ? result : static_cast<int64_t>(value);
  }
  static int open_pidfd(pid_t task) { return static_cast<int>(::syscall(SYS_pidfd_open, task, 0)); }
};

}  // namespace skep::oracle
