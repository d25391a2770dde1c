// SPDX-License-Identifier: Apache-2.0
// PROG_LOAD and what is told of a program afterwards, compared with the kernel's.
#include <fcntl.h>

#include "btf/btf_builder.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using ProgLoadTest = TwoFaces;

void expect_load(Face& face, const std::string& what, ProgramToLoad program) {
  const int fd = program.load(face);
  face.expect(what, fd);
  if (fd >= 0) ::close(fd);
}
void expect_attr(Face& face, const std::string& what, bpf_attr attr) {
  const int fd = face.call(BPF_PROG_LOAD, attr);
  face.expect(what, fd);
  if (fd >= 0) ::close(fd);
}

TEST_F(ProgLoadTest, AttributesInTheirOrder) {
  compare([](Face& face) {
    ProgramToLoad good = returning(0);
    expect_attr(face, "good", good.attr());
    expect_attr(face, "all zero", no_attr());
    bpf_attr attr = good.attr();
    attr.insn_cnt = 0;
    expect_attr(face, "no instructions", attr);
    attr.insn_cnt = 1'000'001;
    expect_attr(face, "too many instructions", attr);
    attr.prog_flags = 1U << 30;
    expect_attr(face, "flags before count", attr);
    attr = good.attr();
    attr.insns = 0;
    expect_attr(face, "instructions at null", attr);
    attr = good.attr();
    attr.license = 0;
    expect_attr(face, "license at null", attr);
    attr = good.attr();
    attr.prog_type = 1000;
    expect_attr(face, "unknown type", attr);
    attr.license = 0;
    expect_attr(face, "license before type", attr);
    attr = good.attr();
    std::memset(attr.prog_name, 'a', sizeof attr.prog_name);
    expect_attr(face, "name too long", attr);
    std::memcpy(attr.prog_name, "a-b", 4);
    expect_attr(face, "name with a dash", attr);
    std::memcpy(attr.prog_name, "a.b_9\0%%", 8);
    expect_attr(face, "name with rubbish behind it", attr);
    attr = good.attr();
    attr.attach_btf_id = 5;
    expect_attr(face, "attach type id", attr);
    attr = good.attr();
    attr.attach_prog_fd = 100000;
    expect_attr(face, "attach program", attr);
    attr = good.attr();
    attr.prog_ifindex = 1;
    expect_attr(face, "device for a socket filter", attr);
    attr = good.attr();
    attr.prog_btf_fd = 100000;
    expect_attr(face, "BTF that nobody asks for", attr);
    attr.func_info_cnt = 1;
    expect_attr(face, "BTF that is not there", attr);
    const int none = -1;
    for (const uint64_t array : {uint64_t{0}, reinterpret_cast<uint64_t>(&none)}) {
      for (const uint32_t count : {1U, 0x3ffffffeU, 0x3fffffffU, UINT32_MAX}) {
        attr = good.attr();
        attr.fd_array = array;
        attr.fd_array_cnt = count;
        expect_attr(face, "descriptors listed", attr);
        attr.func_info_cnt = 1;
        expect_attr(face, "descriptors listed before BTF", attr);
      }
    }
  });
}

TEST_F(ProgLoadTest, ExpectedAttachTypes) {
  compare([](Face& face) {
    for (const uint32_t type : {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP,
                                BPF_PROG_TYPE_CGROUP_SKB, BPF_PROG_TYPE_SYSCALL, BPF_PROG_TYPE_TRACEPOINT}) {
      for (const uint32_t attach : {0U, 1U, 2U, 35U, 36U, 37U, 46U, 47U}) {
        ProgramToLoad good = returning(0, type);
        bpf_attr attr = good.attr();
        attr.expected_attach_type = attach;
        expect_attr(face, "type " + std::to_string(type) + " attach " + std::to_string(attach), attr);
      }
    }
    for (const uint32_t flag : {BPF_F_SLEEPABLE + 0U, BPF_F_STRICT_ALIGNMENT + 0U, BPF_F_ANY_ALIGNMENT + 0U,
                                BPF_F_TEST_STATE_FREQ + 0U, BPF_F_XDP_HAS_FRAGS + 0U, 1U << 8, 1U << 15}) {
      ProgramToLoad good = returning(0);
      good.flags = flag;
      expect_load(face, "flag " + std::to_string(flag), good);
    }
    ProgramToLoad awake = returning(0, BPF_PROG_TYPE_SYSCALL);
    awake.flags = 0;
    expect_load(face, "system call that may not sleep", awake);
  });
}

TEST_F(ProgLoadTest, MalformedPrograms) {
  compare([](Face& face) {
    const auto bad = [&](const std::string& what, std::initializer_list<Code> code) {
      expect_load(face, what, program(code));
    };
    bad("no exit", {mov(r0, 0)});
    bad("jump out", {mov(r0, 0), jump(5), exit_()});
    bad("jump before", {mov(r0, 0), jump(-5), exit_()});
    bad("jump to the end", {mov(r0, 0), jump(0)});
    bad("unreachable", {mov(r0, 0), exit_(), mov(r0, 1), exit_()});
    bad("unreachable after a jump", {mov(r0, 0), jump(1), mov(r0, 1), exit_()});
    bad("middle of a wide load", {mov(r0, 0), jump_if(kJeq, r0, 0, 1), load_imm64(r1, 7), exit_()});
    bad("half a wide load", {mov(r0, 0), one(raw(kLd | kImm | kDw, 1, 0, 0, 1))});
    bad("wide load with a bad second half",
        {one(raw(kLd | kImm | kDw, 1, 0, 0, 1)), one(raw(0, 1, 0, 0, 0)), mov(r0, 0), exit_()});
    bad("wide load with an offset",
        {one(raw(kLd | kImm | kDw, 1, 0, 1, 1)), one(raw(0, 0, 0, 0, 0)), mov(r0, 0), exit_()});
    bad("wide load of nothing known", {wide(r1, 9, 0, 0), mov(r0, 0), exit_()});
    bad("map that is not there", {load_map(r1, 100000), mov(r0, 0), exit_()});
    bad("negative map", {load_map(r1, ~0U), mov(r0, 0), exit_()});
    bad("map by index without a list", {wide(r1, BPF_PSEUDO_MAP_IDX, 0, 0), mov(r0, 0), exit_()});
    bad("map with a second number", {wide(r1, BPF_PSEUDO_MAP_FD, 0, 4), mov(r0, 0), exit_()});
    bad("call outside", {call_function(50), mov(r0, 0), exit_()});
    bad("call into a function that falls through", {call_function(1), exit_(), mov(r0, 0)});
    bad("call of no helper", {call(9999), mov(r0, 0), exit_()});
    bad("call of a negative helper", {call(-1), mov(r0, 0), exit_()});
    bad("unknown opcode", {one(raw(0xff, 0, 0, 0, 0)), mov(r0, 0), exit_()});
    bad("register 12", {one(raw(kAlu64 | kMov | kK, 12, 0, 0, 0)), mov(r0, 0), exit_()});
    bad("write to the frame pointer", {mov(r10, 0), mov(r0, 0), exit_()});
    bad("reserved field of a move", {one(raw(kAlu64 | kMov | kK, 0, 3, 0, 0)), exit_()});
    bad("reserved field of an exit", {mov(r0, 0), one(raw(kJmp | kExit, 0, 0, 0, 1))});
    bad("reserved field of a jump", {mov(r0, 0), one(raw(kJmp | kJa, 1, 0, 0, 0)), exit_()});
    bad("reserved field of a load", {one(raw(kLdx | kMem | kW, 0, 1, 0, 9)), exit_()});
    bad("reserved field of a call", {one(raw(kJmp | kCall, 1, 0, 0, 7)), exit_()});
    bad("division by zero", {mov(r0, 1), alu(kDiv, r0, 0), exit_()});
    bad("shift too far", {mov(r0, 1), alu(kLsh, r0, 64), exit_()});
    bad("byte swap of 24 bits", {mov(r0, 1), be(r0, 24), exit_()});
    bad("atomic on a byte", {mov(r0, 0), atomic(kB, kAdd, r10, -8, r0), exit_()});
    expect_load(face, "GPL helper without the GPL", [] {
      ProgramToLoad result = program({mov(r1, 0), mov(r2, 0), call(6), mov(r0, 0), exit_()}, BPF_PROG_TYPE_TRACEPOINT);
      result.license = "Proprietary";
      return result;
    }());
    ProgramToLoad endless = returning(0);
    endless.code.clear();
    for (int i = 0; i < 300; ++i) {
      const auto one_call = assemble({call_function(2 * (300 - i) - 2 + i + 1 + 1 - 1)});
      endless.code.insert(endless.code.end(), one_call.begin(), one_call.end());
    }
    const auto tail = assemble({mov(r0, 0), exit_()});
    for (int i = 0; i < 301; ++i) endless.code.insert(endless.code.end(), tail.begin(), tail.end());
    expect_load(face, "too many functions", endless);
  });
}

TEST_F(ProgLoadTest, MapsAndTheirValues) {
  compare([](Face& face) {
    const int array = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 32, 1));
    const int wide_array = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 32, 2));
    const int hash = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_HASH, 4, 32, 2));
    const auto value = [&](const std::string& what, int map, uint32_t offset) {
      expect_load(face, what, program({load_map_value(r1, static_cast<uint32_t>(map), offset), mov(r0, 0), exit_()}));
    };
    value("value", array, 0);
    value("last byte", array, 31);
    value("behind the value", array, 32);
    value("far behind the value", array, 1U << 29);
    value("value of two", wide_array, 0);
    value("value of a hash", hash, 0);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    expect_load(face, "no map", program({load_map(r1, static_cast<uint32_t>(null)), mov(r0, 0), exit_()}));

    const int list[] = {array, hash};
    ProgramToLoad listed = program({wide(r1, BPF_PSEUDO_MAP_IDX_VALUE, 0, 4), wide(r2, BPF_PSEUDO_MAP_IDX, 1, 0),
                                    load_map(r3, static_cast<uint32_t>(hash)), mov(r0, 0), exit_()});
    bpf_attr attr = listed.attr();
    attr.fd_array = reinterpret_cast<uint64_t>(list);
    const int fd = face.call(BPF_PROG_LOAD, attr);
    face.expect("by index", fd);
    bpf_prog_info info = no_info();
    uint32_t ids[4] = {};
    bpf_insn code[8] = {};
    info.nr_map_ids = 4;
    info.map_ids = reinterpret_cast<uint64_t>(ids);
    info.xlated_prog_len = sizeof code;
    info.xlated_prog_insns = reinterpret_cast<uint64_t>(code);
    face.expect("info", program_info(face, fd, info));
    face.note("maps", info.nr_map_ids);
    face.note("tag", std::string(reinterpret_cast<char*>(info.tag), sizeof info.tag));
    face.note("xlated", info.xlated_prog_len);
    for (const bpf_insn& insn : code) {
      const bool first = insn.code != 0 && insn.src_reg != 0;
      face.note("code", insn.code);
      face.note("registers", insn.dst_reg | insn.src_reg << 4);
      if (first) {
        const auto at = std::find(std::begin(ids), std::end(ids), static_cast<uint32_t>(insn.imm));
        face.note("map", at - ids);
      } else {
        face.note("imm", insn.imm);
      }
    }
    attr.fd_array = 8;
    face.expect("list at a bad place", face.call(BPF_PROG_LOAD, attr));
    for (const int each : {array, wide_array, hash, null, fd}) ::close(each);
  });
}

TEST_F(ProgLoadTest, FunctionsLinesAndTags) {
  compare([](Face& face) {
    BtfBuilder types;
    const uint32_t integer = types.integer("int", 4, 1);
    const uint32_t prototype = types.prototype(integer, {});
    const uint32_t main_type = types.add(BtfKind::kFunc, "entry", prototype, 1);
    const uint32_t sub_type = types.add(BtfKind::kFunc, "sub", prototype, 0);
    const uint32_t file = types.string("prog.c"), line = types.string("return sub();");
    const auto raw = types.raw();
    bpf_attr load = no_attr();
    load.btf = reinterpret_cast<uint64_t>(raw.data());
    load.btf_size = static_cast<uint32_t>(raw.size());
    const int btf = face.call(BPF_BTF_LOAD, load);
    face.expect("BTF", btf);

    ProgramToLoad two = program({call_function(1), exit_(), mov(r0, 7), exit_()});
    bpf_func_info functions[] = {{0, main_type}, {2, sub_type}};
    bpf_line_info lines[] = {{0, file, line, 1U << 10}, {2, file, line, 2U << 10}, {3, file, line, 3U << 10}};
    const auto attr_of = [&] {
      bpf_attr attr = two.attr();
      attr.prog_btf_fd = static_cast<uint32_t>(btf);
      attr.func_info = reinterpret_cast<uint64_t>(functions);
      attr.func_info_cnt = 2;
      attr.func_info_rec_size = sizeof functions[0];
      attr.line_info = reinterpret_cast<uint64_t>(lines);
      attr.line_info_cnt = 3;
      attr.line_info_rec_size = sizeof lines[0];
      return attr;
    };
    const int fd = face.call(BPF_PROG_LOAD, attr_of());
    face.expect("load", fd);
    bpf_prog_info info = no_info();
    bpf_func_info got_functions[3] = {};
    bpf_line_info got_lines[4] = {};
    bpf_insn code[4] = {};
    info.func_info = reinterpret_cast<uint64_t>(got_functions);
    info.nr_func_info = 3;
    info.func_info_rec_size = sizeof(bpf_func_info);
    info.line_info = reinterpret_cast<uint64_t>(got_lines);
    info.nr_line_info = 2;
    info.line_info_rec_size = sizeof(bpf_line_info);
    info.xlated_prog_insns = reinterpret_cast<uint64_t>(code);
    info.xlated_prog_len = sizeof code;
    face.expect("info", program_info(face, fd, info));
    face.note("functions", info.nr_func_info);
    face.note("lines", info.nr_line_info);
    face.note("has BTF", info.btf_id != 0);
    face.note("tags", info.nr_prog_tags);
    face.note("function records", std::string(reinterpret_cast<char*>(got_functions), sizeof got_functions));
    face.note("line records", std::string(reinterpret_cast<char*>(got_lines), sizeof got_lines));
    face.note("code", std::string(reinterpret_cast<char*>(code), sizeof code));
    info = no_info();
    info.nr_func_info = 1;
    info.func_info_rec_size = 12;
    face.expect("another record size", program_info(face, fd, info));
    info = no_info();
    face.expect("no lists", program_info(face, fd, info));
    face.note("record size of functions", info.func_info_rec_size);
    face.note("record size of lines", info.line_info_rec_size);

    const auto refuse = [&](const std::string& what, bpf_attr attr) { expect_attr(face, what, attr); };
    bpf_attr attr = attr_of();
    attr.func_info_cnt = 1;
    refuse("a function is missing", attr);
    attr = attr_of();
    attr.func_info_rec_size = 4;
    refuse("small function records", attr);
    attr.func_info_rec_size = 256;
    refuse("large function records", attr);
    attr = attr_of();
    attr.func_info = 1;
    refuse("functions at a bad place", attr);
    attr = attr_of();
    attr.line_info_cnt = 1;
    refuse("a line is missing", attr);
    attr.line_info_rec_size = 18;
    refuse("odd line records", attr);
    functions[1].insn_off = 3;
    refuse("a function elsewhere", attr_of());
    functions[1] = {2, integer};
    refuse("a function of another kind", attr_of());
    functions[1] = {2, sub_type};
    lines[1].insn_off = 0;
    refuse("lines out of order", attr_of());
    lines[1] = {2, file, 100000, 0};
    refuse("a line without text", attr_of());
    lines[1] = {2, file, line, 0};
    refuse("all well again", attr_of());
    ::close(fd);
    ::close(btf);
  });
}

TEST_F(ProgLoadTest, LogRules) {
  compare([](Face& face) {
    char buffer[256];
    ProgramToLoad bad = program({mov(r0, 0)});
    const auto logged = [&](const std::string& what, uint32_t level, uint32_t size, bool with_buffer) {
      std::memset(buffer, 0, sizeof buffer);
      bpf_attr attr = bad.attr();
      attr.log_level = level;
      attr.log_size = size;
      attr.log_buf = with_buffer ? reinterpret_cast<uint64_t>(buffer) : 0;
      face.expect(what, face.call(BPF_PROG_LOAD, &attr, sizeof attr));
      face.note(what + ": some text", buffer[0] != '\0');
      face.note(what + ": true size", attr.log_true_size > 0);
    };
    logged("no level", 0, 0, false);
    logged("a buffer without a level", 0, 100, true);
    logged("a level without a buffer", 1, 0, false);
    logged("a size without a buffer", 1, 100, false);
    logged("a buffer without a size", 1, 0, true);
    logged("a level that is none", 16, 100, true);
    logged("all of it", 1, sizeof buffer, true);
    logged("a byte", 1, 1, true);
    logged("ten bytes", 1, 10, true);
    logged("ten bytes from the beginning", 9, 10, true);
    bpf_attr attr = bad.attr();
    attr.log_level = 1;
    attr.log_size = 100;
    attr.log_buf = 8;
    face.expect("a buffer at a bad place", face.call(BPF_PROG_LOAD, attr));
  });
}

TEST_F(ProgLoadTest, LogNamesTheProblem) {
  Face skep(process_.get());
  ProgramToLoad bad = program({call(9999), mov(r0, 0), exit_()});
  EXPECT_EQ(bad.load_with_log(skep), -EINVAL);
  EXPECT_NE(bad.log.find("9999"), std::string::npos) << bad.log.c_str();
  bad = program({mov(r0, 0), jump(9), exit_()});
  EXPECT_EQ(bad.load_with_log(skep), -EINVAL);
  EXPECT_STREQ(bad.log.c_str(), "jump out of range from insn 1 to 11\n");
}

TEST_F(ProgLoadTest, BindsMaps) {
  compare([](Face& face) {
    ProgramToLoad good = returning(0);
    const int prog = good.load(face), map = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 4, 1));
    const auto bind = [&](const std::string& what, int prog_fd, int map_fd, uint32_t flags) {
      bpf_attr attr = no_attr();
      attr.prog_bind_map.prog_fd = static_cast<uint32_t>(prog_fd);
      attr.prog_bind_map.map_fd = static_cast<uint32_t>(map_fd);
      attr.prog_bind_map.flags = flags;
      face.expect(what, face.call(BPF_PROG_BIND_MAP, attr));
    };
    bind("flags", prog, map, 1);
    bind("no program", -1, map, 0);
    bind("a map for a program", map, map, 0);
    bind("no map", prog, 100000, 0);
    bind("a program for a map", prog, prog, 0);
    bind("bind", prog, map, 0);
    bind("again", prog, map, 0);
    bpf_prog_info info = no_info();
    face.expect("info", program_info(face, prog, info));
    face.note("maps", info.nr_map_ids);
    ::close(map);
    uint32_t id = 0;
    info = no_info();
    info.map_ids = reinterpret_cast<uint64_t>(&id);
    info.nr_map_ids = 1;
    face.expect("info after the map was closed", program_info(face, prog, info));
    bpf_attr attr = no_attr();
    attr.map_id = id;
    const int again = face.call(BPF_MAP_GET_FD_BY_ID, attr);
    face.expect("the program keeps it", again);
    ::close(again);
    ::close(prog);
  });
}

}  // namespace
}  // namespace skep
