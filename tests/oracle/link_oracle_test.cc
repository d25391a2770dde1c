// SPDX-License-Identifier: Apache-2.0
// Iterator links: LINK_*, ITER_CREATE and what reading gives, on skep and on the kernel.
#include <fcntl.h>

#include "syscall/fdinfo.h"
#include "syscall/link_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr int32_t kSeqPrintf = 126, kSeqWrite = 127;

using LinkOracle = LinkTest;

TEST_F(LinkOracle, Loads) {
  compare([&](Face& face) {
    face.expect("iterator", load(face, verdict(0)));
    face.expect("sleepable", load(face, verdict(0), "bpf_iter_bpf_map_elem", BPF_TRACE_ITER, BPF_F_SLEEPABLE));
    face.expect("no function", load(face, verdict(0), ""));
    face.expect("no iterator's function", load(face, verdict(0), "schedule"));
    const int program = load(face, verdict(0));
    bpf_prog_info info = no_info();
    face.note("info", program_info(face, program, info));
    face.note("type", info.type);
    face.note("attach_btf_id", info.attach_btf_id);
    face.note("test run", face.call(BPF_PROG_TEST_RUN, run_attr(program)));
  });
}

/// Over what else the kernel has iterators: docs/differences.md. Its answer is noted too, so that one that it has no
/// more is seen.
TEST_F(LinkOracle, OtherTargets) {
  Face kernel(nullptr), skep(process_.get());
  for (const char* target : {"bpf_iter_bpf_map", "bpf_iter_bpf_prog", "bpf_iter_bpf_link", "bpf_iter_task",
                             "bpf_iter_task_file", "bpf_iter_cgroup", "bpf_iter_bpf_sk_storage_map"}) {
    if (kernel_id(target) == 0) continue;
    ProgramToLoad program = returning(0, BPF_PROG_TYPE_TRACING);
    bpf_attr attr = program.attr();
    attr.expected_attach_type = BPF_TRACE_ITER;
    attr.attach_btf_id = kernel_id(target);
    EXPECT_GE(keep(kernel.call(BPF_PROG_LOAD, attr)), 0) << target;
    EXPECT_EQ(skep.call(BPF_PROG_LOAD, attr), -EINVAL) << target;
    EXPECT_NE(std::string(last_error_sentence()).find("map elements only"), std::string::npos);
  }
}

TEST_F(LinkOracle, RunsAreCounted) {
  compare([&](Face& face) {
    const int program = load(face, verdict(0)), made = link(face, program, map(face, BPF_MAP_TYPE_ARRAY));
    bpf_attr attr = no_attr();
    const int stats = keep(face.call(BPF_ENABLE_STATS, attr));
    EXPECT_GE(stats, 0);
    face.note("text", text_of(face, made));
    bpf_prog_info info = no_info();
    program_info(face, program, info);
    face.note("runs", static_cast<int64_t>(info.run_cnt));
  });
}

TEST_F(LinkOracle, CreateMatrix) {
  compare([&](Face& face) {
    const int program = load(face, verdict(0)), hash = map(face, BPF_MAP_TYPE_HASH);
    const int other = keep(returning(0).load(face));
    const int sleepable = load(face, verdict(0), "bpf_iter_bpf_map_elem", BPF_TRACE_ITER, BPF_F_SLEEPABLE);
    face.expect("fine", link(face, program, hash));
    face.expect("sleepable", link(face, sleepable, hash));
    face.expect("flags", link(face, program, hash, 16, BPF_TRACE_ITER, 0, 1));
    face.expect("target", link(face, program, hash, 16, BPF_TRACE_ITER, 3));
    for (const uint32_t type : {0U, 27U, 29U, 200U})
      face.expect("attach type " + std::to_string(type), link(face, program, hash, 16, type));
    for (const uint32_t size : {0U, 4U, 8U, 17U, 64U, 65U, 5000U})
      face.expect("info of " + std::to_string(size), link(face, program, hash, size));
    for (const int target : {0, 999, -1, program}) face.expect("target", link(face, program, target));
    for (const int prog : {999, -1, hash, other}) face.expect("program", link(face, prog, hash));
    for (const uint32_t type : {1U, 2U, 3U, 5U, 6U, 7U, 8U, 9U, 10U, 22U, 23U, 30U}) {
      const bool keyless = type == 22 || type == 23 || type == 30, word = type == 3 || type == 8;
      const int target = map(face, type, keyless ? 0 : 4, word ? 4 : 8);
      face.expect("type " + std::to_string(type), link(face, program, target));
    }
  });
}

TEST_F(LinkOracle, Commands) {
  compare([&](Face& face) {
    const int program = load(face, verdict(0)), second = load(face, verdict(1)), hash = map(face, BPF_MAP_TYPE_HASH);
    const int other = keep(returning(0).load(face)), made = link(face, program, hash);
    for (const int fd : {made, hash, 999, program}) {
      face.expect("iterate", iterator(face, fd));
      face.note("detach", detach(face, fd));
      face.note("update", update(face, fd, second));
    }
    face.expect("flags", iterator(face, made, 1));
    face.note("other program", update(face, made, other));
    face.note("no program", update(face, made, 999));
    face.note("old without flag", update(face, made, program, 0, second));
    face.note("wrong old", update(face, made, program, 4, program));
    face.note("no old", update(face, made, program, 4, 999));
    face.note("right old", update(face, made, program, 4, second));
    for (const uint32_t flags : {1U, 2U, 8U}) face.note("update flags", update(face, made, program, flags));
    face.note("mode", ::fcntl(made, F_GETFL) & O_ACCMODE);
    face.note("close on exec", ::fcntl(made, F_GETFD));
  });
}

TEST_F(LinkOracle, Info) {
  compare([&](Face& face) {
    const int made = link(face, load(face, verdict(0)), map(face, BPF_MAP_TYPE_HASH));
    for (uint32_t room = 0; room < 20; ++room) {
      std::array<char, 32> name{'x', 'x'};
      bpf_link_info info;
      std::memset(&info, 0, sizeof info);
      info.iter.target_name = room == 1 ? 0 : reinterpret_cast<uint64_t>(name.data());
      info.iter.target_name_len = room;
      bpf_attr attr = no_attr();
      attr.info.bpf_fd = static_cast<uint32_t>(made);
      attr.info.info_len = sizeof info;
      attr.info.info = reinterpret_cast<uint64_t>(&info);
      face.note("info " + std::to_string(room), face.call(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr));
      face.note("type", info.type);
      face.note("ids", info.id != 0 && info.prog_id != 0 && info.iter.map.map_id != 0);
      face.note("name", name.data());
      face.note("length", info.iter.target_name_len);
      face.note("size", attr.info.info_len);
    }
    for (const uint32_t size : {0U, 4U, 12U, 24U, 48U, 64U, 200U}) {
      std::array<char, 256> info{};
      bpf_attr attr = no_attr();
      attr.info.bpf_fd = static_cast<uint32_t>(made);
      attr.info.info_len = size;
      attr.info.info = reinterpret_cast<uint64_t>(info.data());
      face.note("size " + std::to_string(size), face.call(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr));
      face.note("told", attr.info.info_len);
    }
  });
}

TEST_F(LinkOracle, Elements) {
  for (const uint32_t type : {BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_PERCPU_HASH,
                              BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_LRU_PERCPU_HASH}) {
    for (const uint32_t count : {0U, 1U, 5U}) {
      compare([&](Face& face) {
        const int target = map(face, type);
        for (uint32_t key = 0; key < count; ++key) {
          std::array<uint64_t, 512> values{};
          values.fill(key * 3 + 1);
          face.call(BPF_MAP_UPDATE_ELEM, element_attr(target, &key, values.data()));
        }
        const std::string text = text_of(face, link(face, load(face, recorder()), target));
        face.note("size", static_cast<int64_t>(text.size()));
        if (text.size() % sizeof(Record) != 8) return;
        std::vector<Record> records(text.size() / sizeof(Record));
        if (!records.empty()) std::memcpy(records.data(), text.data(), records.size() * sizeof(Record));
        for (size_t i = 0; i < records.size(); ++i) face.note("number", records[i].number);
        std::ranges::sort(records, {}, &Record::key);
        for (const Record& record : records) {
          face.note("key", record.key);
          face.note("value", static_cast<int64_t>(record.value));
        }
        uint64_t end = 0;
        std::memcpy(&end, text.data() + text.size() - sizeof end, sizeof end);
        face.note("end", static_cast<int64_t>(end));
      });
    }
  }
}

TEST_F(LinkOracle, ProgramsChangeValues) {
  compare([&](Face& face) {
    const int target = map(face, BPF_MAP_TYPE_ARRAY);
    const std::vector<bpf_insn> writer = assemble(
        {assembler::load(kDw, r2, r1, 24), jump_if(kJeq, r2, 0, 1), store(kDw, r2, 0, 7), mov(r0, 0), exit_()});
    face.note("text", text_of(face, link(face, load(face, writer), target)));
    const uint32_t key = 3;
    uint64_t value = 0;
    face.note("lookup", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(target, &key, &value)));
    face.note("value", static_cast<int64_t>(value));
  });
}

TEST_F(LinkOracle, ProgramsThatAskForTheElementAgain) {
  compare([&](Face& face) {
    const int target = map(face, BPF_MAP_TYPE_ARRAY);
    face.note("text", text_of(face, link(face, load(face, verdict(1)), target)));
  });
}

TEST_F(LinkOracle, ProgramsThatAskOnceAreShownTheElementAgain) {
  // Writes its number; the program says 1 the first time that it sees number 2, which is not written then.
  compare([&](Face& face) {
    const int target = map(face, BPF_MAP_TYPE_ARRAY), seen = map(face, BPF_MAP_TYPE_ARRAY);
    const std::vector<bpf_insn> asks = assemble({mov(r6, r1),
                                                 assembler::load(kDw, r7, r6, 0),
                                                 assembler::load(kDw, r3, r7, 16),
                                                 store(kDw, r10, -8, r3),
                                                 assembler::load(kDw, r1, r7, 0),
                                                 mov(r2, r10),
                                                 add(r2, -8),
                                                 mov(r3, 8),
                                                 call(kSeqWrite),
                                                 mov(r0, 0),
                                                 assembler::load(kDw, r3, r10, -8),
                                                 jump_if(kJne, r3, 2, 11),
                                                 store(kW, r10, -16, 0),
                                                 mov(r2, r10),
                                                 add(r2, -16),
                                                 load_map(r1, static_cast<uint32_t>(seen)),
                                                 call(1),
                                                 jump_if(kJeq, r0, 0, 4),
                                                 assembler::load(kDw, r3, r0, 0),
                                                 mov(r4, 1),
                                                 store(kDw, r0, 0, r4),
                                                 jump_if(kJeq, r3, 0, 2),
                                                 mov(r0, 0),
                                                 exit_(),
                                                 mov(r0, 1),
                                                 exit_()});
    const int program = load(face, asks);
    EXPECT_GT(program, 0) << face.is_kernel();
    const std::string text = text_of(face, link(face, program, target));
    face.note("size", static_cast<int64_t>(text.size()));
    for (size_t at = 0; at + 8 <= text.size(); at += 8) {
      uint64_t number;
      std::memcpy(&number, text.data() + at, sizeof number);
      face.note("number", static_cast<int64_t>(number));
    }
  });
}

TEST_F(LinkOracle, Texts) {
  // What bpf_seq_printf() makes of formats and arguments, and what it answers.
  struct Case {
    const char* format;
    uint32_t size;
    uint32_t data;
  };
  for (const Case& c :
       {Case{"%d|", 4, 8}, Case{"%d|", 3, 8}, Case{"%5u %llx", 9, 16}, Case{"%d %d", 6, 8}, Case{"no arguments", 13, 0},
        Case{"%q", 3, 8}, Case{"%d", 3, 12}, Case{"%%%c", 5, 8}, Case{"", 1, 0}, Case{"%d", 3, 16}}) {
    compare([&](Face& face) {
      char padded[16] = {};
      std::strncpy(padded, c.format, sizeof padded - 1);
      uint64_t words[2];
      std::memcpy(words, padded, sizeof padded);
      const int target = map(face, BPF_MAP_TYPE_ARRAY);
      const std::vector<bpf_insn> prints = assemble({load_imm64(r3, words[0]),
                                                     store(kDw, r10, -16, r3),
                                                     load_imm64(r3, words[1]),
                                                     store(kDw, r10, -8, r3),
                                                     mov(r3, 65),
                                                     store(kDw, r10, -32, r3),
                                                     store(kDw, r10, -24, r3),
                                                     assembler::load(kDw, r7, r1, 0),
                                                     assembler::load(kDw, r6, r7, 0),
                                                     mov(r1, r6),
                                                     mov(r2, r10),
                                                     add(r2, -16),
                                                     mov(r3, static_cast<int32_t>(c.size)),
                                                     mov(r4, r10),
                                                     add(r4, -32),
                                                     mov(r5, static_cast<int32_t>(c.data)),
                                                     call(kSeqPrintf),
                                                     store(kDw, r10, -16, r0),
                                                     mov(r1, r6),
                                                     mov(r2, r10),
                                                     add(r2, -16),
                                                     mov(r3, 8),
                                                     call(kSeqWrite),
                                                     mov(r0, 0),
                                                     exit_()});
      const int program = load(face, prints);
      EXPECT_GT(program, 0) << face.is_kernel();
      face.note(c.format, text_of(face, link(face, program, target)));
    });
  }
}

TEST_F(LinkOracle, MapsOfContexts) {
  // The members of the context's map, where the running kernel has them.
  const auto kernel = KernelBtf::read();
  ASSERT_TRUE(kernel);
  const uint32_t type = kernel->find(BtfKind::kStruct, "bpf_map");
  for (const char* name : {"map_type", "key_size", "value_size", "max_entries", "map_flags"}) {
    const auto member = kernel->member(type, name);
    ASSERT_TRUE(member) << name;
    compare([&](Face& face) {
      const int target = map(face, BPF_MAP_TYPE_HASH, 12, 20, BPF_F_NO_PREALLOC);
      const std::vector<bpf_insn> tells =
          assemble({assembler::load(kDw, r7, r1, 0), assembler::load(kDw, r8, r1, 8), mov(r3, 0),
                    jump_if(kJeq, r8, 0, 1), assembler::load(kW, r3, r8, static_cast<int16_t>(member->offset)),
                    store(kDw, r10, -8, r3), assembler::load(kDw, r1, r7, 0), mov(r2, r10), add(r2, -8), mov(r3, 8),
                    call(kSeqWrite), mov(r0, 0), exit_()});
      face.note(name, text_of(face, link(face, load(face, tells), target)));
    });
  }
}

TEST_F(LinkOracle, AlmostTooMuchForOneElement) {
  for (const int32_t last : {1023, 1024, 1025}) {
    compare([&](Face& face) {
      const int buffer = keep(face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 4096, 1)));
      const int target = keep(face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 2)));
      // 31 times 1,024 bytes and the last.
      std::vector<bpf_insn> code =
          assemble({mov(r6, r1), store(kW, r10, -4, 0), mov(r2, r10), add(r2, -4),
                    load_map(r1, static_cast<uint32_t>(buffer)), call(1), jump_if(kJne, r0, 0, 2), mov(r0, 0), exit_(),
                    mov(r9, r0), assembler::load(kDw, r7, r6, 0), assembler::load(kDw, r7, r7, 0)});
      const auto append = [&code](const std::vector<bpf_insn>& more) {
        code.insert(code.end(), more.begin(), more.end());
      };
      for (int i = 0; i < 32; ++i)
        append(assemble({mov(r1, r7), mov(r2, r9), mov(r3, i == 31 ? last : 1024), call(kSeqWrite)}));
      append(assemble({mov(r0, 0), exit_()}));
      const int program = load(face, code);
      EXPECT_GT(program, 0) << face.is_kernel();
      const std::string text = text_of(face, link(face, program, target));
      face.note("text", text.size() < 100 ? text : std::to_string(text.size()));
    });
  }
}

TEST_F(LinkOracle, LinksLiveAsLongAsTheirDescriptors) {
  compare([&](Face& face) {
    const int target = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 8));
    const int program = load(face, recorder()), made = link(face, program, target);
    ::close(target);
    face.note("text without the map's descriptor", static_cast<int64_t>(text_of(face, made).size()));
    bpf_link_info info;
    std::memset(&info, 0, sizeof info);
    bpf_attr attr = no_attr();
    attr.info.bpf_fd = static_cast<uint32_t>(made);
    attr.info.info_len = sizeof info;
    attr.info.info = reinterpret_cast<uint64_t>(&info);
    face.note("info", face.call(BPF_OBJ_GET_INFO_BY_FD, attr));
    bpf_attr by_id = no_attr();
    by_id.link_id = info.id;
    face.expect("by id", keep(face.call(BPF_LINK_GET_FD_BY_ID, by_id)));
    by_id.link_id = 1 << 30;
    face.expect("by wrong id", face.call(BPF_LINK_GET_FD_BY_ID, by_id));
    bpf_attr next = no_attr();
    next.start_id = info.id - 1;
    face.note("next", face.call(BPF_LINK_GET_NEXT_ID, &next, sizeof next));
    face.note("the same", next.next_id == info.id);
  });
}

TEST_F(LinkOracle, DescriptorsTellWhatTheyAre) {
  Face face(process_.get());
  const int made = link(face, load(face, verdict(0)), map(face, BPF_MAP_TYPE_HASH));
  const std::string text = fdinfo_text(*process_, made);
  EXPECT_NE(text.find("flags:\t02000000\n"), std::string::npos) << text;
  EXPECT_NE(text.find("link_type:\titer\nlink_id:\t"), std::string::npos) << text;
  EXPECT_NE(text.find("\nprog_tag:\t59f4a931744dcdc6\nprog_id:\t"), std::string::npos) << text;
  EXPECT_NE(text.find("\ntarget_name:\tbpf_map_elem\nmap_id:\t"), std::string::npos) << text;
}

TEST_F(LinkOracle, TooMuchForOneElement) {
  // Programs of a kernel are stopped by its verifier or its buffer; here by SequenceText.
  Face face(process_.get());
  const int target = map(face, BPF_MAP_TYPE_ARRAY);
  std::vector<bpf_insn> flood = assemble({mov(r6, r1), assembler::load(kDw, r7, r6, 0), mov(r8, 200)});
  const std::vector<bpf_insn> loop =
      assemble({assembler::load(kDw, r1, r7, 0), mov(r2, r10), add(r2, -512), mov(r3, 512), call(kSeqWrite),
                add(r8, -1), jump_if(kJne, r8, 0, -7), mov(r0, 0), exit_()});
  flood.insert(flood.end(), loop.begin(), loop.end());
  EXPECT_EQ(text_of(face, link(face, load(face, flood), target)), "errno 7");
}

}  // namespace
}  // namespace skep
