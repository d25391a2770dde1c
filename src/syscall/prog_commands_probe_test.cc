// SPDX-License-Identifier: Apache-2.0
// What a loader library asks before it loads anything: the equivalents of libbpf 1.1's feature probes, compared with
// the kernel's answers.
#include "btf/btf_builder.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using LoaderProbes = TwoFaces;

int load_btf(Face& face, const BtfBuilder& builder) {
  const auto raw = builder.raw();
  bpf_attr attr = no_attr();
  attr.btf = reinterpret_cast<uint64_t>(raw.data());
  attr.btf_size = static_cast<uint32_t>(raw.size());
  return face.call(BPF_BTF_LOAD, attr);
}

TEST_F(LoaderProbes, Btf) {
  compare([](Face& face) {
    const auto probe = [&](const std::string& what, const BtfBuilder& builder) {
      const int fd = load_btf(face, builder);
      face.expect(what, fd);
      if (fd >= 0) ::close(fd);
    };
    BtfBuilder integer;
    integer.integer("int", 4, 1);
    probe("BTF", integer);
    for (const uint32_t linkage : {0U, 1U, 2U}) {
      BtfBuilder function = integer;
      function.add(BtfKind::kFunc, "x", function.prototype(0, {{"a", 1}}), linkage);
      probe("function of linkage " + std::to_string(linkage), function);
    }
    for (const uint32_t linkage : {0U, 1U, 2U}) {
      BtfBuilder variable = integer;
      variable.add(BtfKind::kDatasec, "x", 4, 1, false,
                   {variable.add(BtfKind::kVar, "v", 1, 0, false, {linkage}), 0, 4});
      probe("section with a variable of linkage " + std::to_string(linkage), variable);
    }
    BtfBuilder floating;
    floating.add(BtfKind::kFloat, "float", 4);
    probe("float", floating);
    BtfBuilder tagged = integer;
    tagged.add(BtfKind::kDeclTag, "tag", tagged.add(BtfKind::kVar, "x", 1, 0, false, {0}), 0, false, {~0U});
    probe("declaration tag", tagged);
    BtfBuilder type_tagged = integer;
    type_tagged.add(BtfKind::kPtr, "", type_tagged.add(BtfKind::kTypeTag, "tag", 1));
    probe("type tag", type_tagged);
    BtfBuilder wide;
    wide.add(BtfKind::kEnum64, "e", 8, 1, false, {wide.string("x"), 0, 0});
    probe("64-bit enumeration", wide);
  });
}

TEST_F(LoaderProbes, Programs) {
  compare([](Face& face) {
    const auto probe = [&](const std::string& what, ProgramToLoad program, const char* name = "") {
      bpf_attr attr = program.attr();
      std::strncpy(attr.prog_name, name, sizeof attr.prog_name);
      const int fd = face.call(BPF_PROG_LOAD, attr);
      face.expect(what, fd);
      if (fd >= 0) ::close(fd);
    };
    for (const uint32_t type :
         {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_TRACEPOINT, BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_SCHED_CLS,
          BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_CGROUP_SKB, BPF_PROG_TYPE_SYSCALL}) {
      probe("type " + std::to_string(type), returning(0, type), "test");
    }
    const int map = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 32, 1));
    probe("global data",
          program({load_map_value(r1, static_cast<uint32_t>(map), 16), store(kDw, r1, 0, 42), mov(r0, 0), exit_()}));
    constexpr int32_t kProbeReadKernel = 113, kKtimeCoarse = 160;
    probe("probe_read_kernel",
          program({mov(r1, r10), add(r1, -8), mov(r2, 8), mov(r3, 0), call(kProbeReadKernel), exit_()},
                  BPF_PROG_TYPE_TRACEPOINT));
    probe("memory cgroup accounting", program({call(kKtimeCoarse), exit_()}));
    const int mapable = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 4, 1, BPF_F_MMAPABLE));
    face.expect("array to be mapped", mapable);
    ::close(map);
    ::close(mapable);
  });
}

TEST_F(LoaderProbes, BtfInformation) {
  compare([](Face& face) {
    BtfBuilder integer;
    integer.integer("int", 4, 1);
    const auto raw = integer.raw();
    const int fd = load_btf(face, integer);
    const auto inform = [&](const std::string& what, bpf_btf_info& info, uint32_t size) {
      bpf_attr attr = no_attr();
      attr.info.bpf_fd = static_cast<uint32_t>(fd);
      attr.info.info_len = size;
      attr.info.info = reinterpret_cast<uint64_t>(&info);
      face.expect(what, face.call(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr));
      face.note(what + ": length", attr.info.info_len);
      face.note(what + ": size", info.btf_size);
      face.note(what + ": name length", info.name_len);
      face.note(what + ": of the kernel", info.kernel_btf);
      face.note(what + ": has an id", info.id != 0);
    };
    char name[16] = "old";
    bpf_btf_info info;
    std::memset(&info, 0, sizeof info);
    inform("empty", info, sizeof info);
    std::memset(&info, 0, sizeof info);
    info.name = reinterpret_cast<uint64_t>(name);
    info.name_len = sizeof name;
    inform("name", info, sizeof info);
    face.note("name text", std::string(name));
    info.name_len = 0;
    inform("name without a length", info, sizeof info);
    for (const uint32_t room : {1U, 10U, static_cast<uint32_t>(raw.size()), 4000U}) {
      std::string copy(room, 'x');
      std::memset(&info, 0, sizeof info);
      info.btf = reinterpret_cast<uint64_t>(copy.data());
      info.btf_size = room;
      inform("data", info, sizeof info);
      face.note("copied", copy);
    }
    std::memset(&info, 0, sizeof info);
    info.btf = 8;
    info.btf_size = 8;
    inform("data at a bad place", info, sizeof info);
    std::memset(&info, 0, sizeof info);
    inform("half", info, 12);
    ::close(fd);
  });
}

TEST_F(LoaderProbes, BtfLoadArguments) {
  compare([](Face& face) {
    BtfBuilder good, bad;
    good.integer("int", 4, 1);
    bad.structure("record", 2, {{"tail", 1, 8}});
    char log[512];
    const auto load = [&](const std::string& what, const BtfBuilder& builder, uint32_t level, uint32_t size,
                          bool buffer) {
      const auto raw = builder.raw();
      std::memset(log, 0, sizeof log);
      bpf_attr attr = no_attr();
      attr.btf = reinterpret_cast<uint64_t>(raw.data());
      attr.btf_size = static_cast<uint32_t>(raw.size());
      attr.btf_log_level = level;
      attr.btf_log_size = size;
      attr.btf_log_buf = buffer ? reinterpret_cast<uint64_t>(log) : 0;
      const int fd = face.call(BPF_BTF_LOAD, &attr, sizeof attr);
      face.expect(what, fd);
      face.note(what + ": log", std::string(log));
      face.note(what + ": true size", attr.btf_log_true_size);
      if (fd >= 0) ::close(fd);
    };
    load("good", good, 1, sizeof log, true);
    load("good, small log", good, 1, 20, true);
    load("good, small log from the beginning", good, 9, 20, true);
    load("good, one byte of log", good, 1, 1, true);
    load("good, level 2", good, 2, sizeof log, true);
    load("good, statistics", good, 4, sizeof log, true);
    load("good, no level", good, 0, sizeof log, true);
    load("good, no buffer", good, 1, 0, false);
    load("good, size without a buffer", good, 1, 10, false);
    load("good, huge log", good, 1, UINT32_MAX, true);
    load("bad", bad, 1, sizeof log, true);
    load("bad, small log", bad, 1, 20, true);
    load("bad, unknown level", bad, 32, sizeof log, true);
    bpf_attr attr = no_attr();
    attr.btf_size = (16U << 20) + 1;
    face.expect("too large", face.call(BPF_BTF_LOAD, attr));
    attr.btf_size = 100;
    face.expect("at null", face.call(BPF_BTF_LOAD, attr));
    attr.btf_flags = 1;
    face.expect("flags", face.call(BPF_BTF_LOAD, attr));
  });
}

}  // namespace
}  // namespace skep
