// SPDX-License-Identifier: Apache-2.0
// Arenas on skep and on the kernel: what can be made, what the commands answer, and where a program gets its pages.
#include <sys/mman.h>

#include <array>
#include <random>

#include "btf/kernel_btf.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr uint64_t kBase = uint64_t{1} << 45;  // what lies lower is AddressSanitizer's

bpf_attr arena_attr(uint32_t pages, uint64_t address, uint32_t flags = BPF_F_MMAPABLE) {
  bpf_attr attr = map_attr(BPF_MAP_TYPE_ARENA, 0, 0, pages, flags);
  attr.map_extra = address;
  return attr;
}

/// What the test's program is to do, and what came of it: the program's context.
struct Request {
  enum Work : uint64_t { kAllocate, kFree, kReserve, kLoad, kStore, kAdd, kLoadBefore, kToUser, kExchange };
  uint64_t work;
  uint64_t address;
  uint64_t count;  // or a value
  uint64_t node;
  uint64_t flags;
  uint64_t result;
};

class ArenaOracle : public TwoFaces {
 protected:
  void SetUp() override {
    TwoFaces::SetUp();
    const auto types = KernelBtf::read();
    if (!types) GTEST_SKIP() << last_error_sentence();
    allocate_ = types->find(BtfKind::kFunc, "bpf_arena_alloc_pages");
    free_ = types->find(BtfKind::kFunc, "bpf_arena_free_pages");
    reserve_ = types->find(BtfKind::kFunc, "bpf_arena_reserve_pages");
  }

  ProgramToLoad worker(int map) const {
    const std::initializer_list<Code> arguments = {load_map(r1, static_cast<uint32_t>(map)), load(kDw, r2, r6, 8),
                                                   load(kDw, r3, r6, 16), load(kDw, r4, r6, 24), load(kDw, r5, r6, 32)};
    const std::initializer_list<Code> pointer = {load(kDw, r1, r6, 8), cast_kernel(r1, r1), load(kDw, r2, r6, 16),
                                                 mov(r0, 0)};
    ProgramToLoad out = program({mov(r6, r1), load(kDw, r7, r6, 0)}, BPF_PROG_TYPE_SYSCALL);
    const auto add = [&](uint64_t work, std::initializer_list<Code> first, std::initializer_list<Code> then) {
      auto block = assemble(first);
      for (const auto& part : {assemble(then), assemble({store(kDw, r6, 40, r0), mov(r0, 0), exit_()})}) {
        block.insert(block.end(), part.begin(), part.end());
      }
      out.code.push_back(jump_if(kJne, r7, static_cast<int32_t>(work), static_cast<int>(block.size())).first);
      out.code.insert(out.code.end(), block.begin(), block.end());
    };
    add(Request::kAllocate, arguments, {call_kernel(allocate_)});
    add(Request::kFree, arguments, {call_kernel(free_), mov(r0, 0)});
    add(Request::kReserve, arguments, {call_kernel(reserve_), alu32(kMov, r0, r0)});
    add(Request::kLoad, pointer, {load(kDw, r0, r1, 0)});
    add(Request::kStore, pointer, {store(kDw, r1, 0, r2)});
    add(Request::kAdd, pointer, {mov(r0, r2), atomic(kDw, kAdd | kFetch, r1, 0, r0)});
    add(Request::kLoadBefore, pointer, {load(kDw, r0, r1, -8)});
    add(Request::kToUser, {load(kDw, r1, r6, 8)}, {cast_user(r0, r1)});
    add(Request::kExchange, pointer, {mov(r0, 5), atomic(kDw, kCmpxchg, r1, 0, r2)});
    const auto end = assemble({mov(r0, 1), exit_()});
    out.code.insert(out.code.end(), end.begin(), end.end());
    return out;
  }

  static uint64_t run(Face& face, int fd, Request request) {
    bpf_attr attr = run_attr(fd);
    attr.test.ctx_in = reinterpret_cast<uint64_t>(&request);
    attr.test.ctx_size_in = sizeof request;
    request.result = 0xdead;
    EXPECT_EQ(face.call(BPF_PROG_TEST_RUN, attr), 0);
    return request.result;
  }

  uint32_t allocate_ = 0, free_ = 0, reserve_ = 0;
};

TEST_F(ArenaOracle, Creation) {
  compare([](Face& face) {
    const auto attempt = [&](const std::string& what, bpf_attr attr) {
      const int fd = face.call(BPF_MAP_CREATE, attr);
      face.expect(what, fd);
      if (fd >= 0) ::close(fd);
    };
    for (int bit = 0; bit < 32; ++bit) {
      if (bit == 16) continue;  // a token
      attempt("flag " + std::to_string(bit), arena_attr(4, 0, BPF_F_MMAPABLE | 1U << bit));
      attempt("flag alone " + std::to_string(bit), arena_attr(4, 0, 1U << bit));
    }
    for (const uint32_t pages : {0U, 1U, 63U, 64U, 65U, 1U << 20, (1U << 20) + 1, UINT32_MAX}) {
      attempt("pages " + std::to_string(pages), arena_attr(pages, 0));
      attempt("pages there " + std::to_string(pages), arena_attr(pages, kBase));
      attempt("pages at the end " + std::to_string(pages), arena_attr(pages, kBase + (uint64_t{1} << 32) - 4096));
    }
    for (const uint64_t address :
         {uint64_t{1}, uint64_t{4095}, uint64_t{4096}, kBase + 8, kBase + 0xfffff000, uint64_t{1} << 56,
          uint64_t{1} << 60 | kBase, ~uint64_t{0xfff}, ~uint64_t{0x1fff}, ~uint64_t{0xffffffff}})
      attempt("address " + std::to_string(address), arena_attr(2, address));
    bpf_attr attr = arena_attr(4, 0);
    attr.key_size = 4;
    attempt("key", attr);
    attr = arena_attr(4, 0);
    attr.value_size = 8;
    attempt("value", attr);
    attr = arena_attr(4, 0);
    attr.map_ifindex = 1;
    attempt("device", attr);
    attr = arena_attr(4, 0);
    attr.numa_node = 77;
    attempt("node without its flag", attr);
  });
}

TEST_F(ArenaOracle, Commands) {
  compare([](Face& face) {
    const int map = face.call(BPF_MAP_CREATE, arena_attr(4, kBase));
    uint64_t key = 0, value = 0;
    for (const uint64_t flags : {uint64_t{0}, uint64_t{1}, uint64_t{4}, uint64_t{99}}) {
      for (void* pointer : {static_cast<void*>(nullptr), static_cast<void*>(&key)}) {
        const std::string what = std::string(pointer == nullptr ? "no key" : "key") + " flags " + std::to_string(flags);
        face.note("lookup " + what, face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, pointer, &value, flags)));
        face.note("update " + what, face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, pointer, &value, flags)));
        face.note("delete " + what, face.call(BPF_MAP_DELETE_ELEM, element_attr(map, pointer, nullptr)));
        face.note("next " + what, face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, pointer, &value)));
        face.note("take " + what, face.call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, element_attr(map, pointer, &value, flags)));
      }
    }
    for (const int command :
         {BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_AND_DELETE_BATCH, BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH}) {
      bpf_attr attr = no_attr();
      attr.batch.map_fd = static_cast<uint32_t>(map);
      attr.batch.count = 1;
      attr.batch.keys = attr.batch.values = attr.batch.out_batch = reinterpret_cast<uint64_t>(&value);
      face.note("batch " + std::to_string(command), face.call(command, attr));
    }
    bpf_map_info info;
    std::memset(&info, 0, sizeof info);
    bpf_attr attr = no_attr();
    attr.info.bpf_fd = static_cast<uint32_t>(map);
    attr.info.info = reinterpret_cast<uint64_t>(&info);
    attr.info.info_len = 100;
    face.note("info", face.call(BPF_OBJ_GET_INFO_BY_FD, attr));
    face.note("extra", static_cast<int64_t>(info.map_extra));
    face.note("flags", info.map_flags);
    face.note("sizes", info.key_size + info.value_size + info.max_entries);
    attr = no_attr();
    attr.map_fd = static_cast<uint32_t>(map);
    face.note("freeze", face.call(BPF_MAP_FREEZE, attr));
    face.note("again", face.call(BPF_MAP_FREEZE, attr));
    ::close(map);
  });
}

TEST_F(ArenaOracle, ProgramsThatAreRefused) {
  compare([this](Face& face) {
    const auto attempt = [&](const char* what, ProgramToLoad program) {
      const int fd = program.load(face);
      face.expect(what, fd);
      if (fd >= 0) ::close(fd);
    };
    const int nowhere = face.call(BPF_MAP_CREATE, arena_attr(4, 0));
    const int arena = face.call(BPF_MAP_CREATE, arena_attr(4, kBase));
    const int other = face.call(BPF_MAP_CREATE, arena_attr(4, kBase));
    const int array = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 1));
    attempt("an arena that nobody has mapped", worker(nowhere));
    attempt("fine", worker(arena));
    ProgramToLoad unfree = worker(arena);
    unfree.license = "none";
    attempt("not GPL", unfree);
    const auto name = [](int map) { return load_map(r1, static_cast<uint32_t>(map)); };
    attempt("two arenas", program({name(arena), name(other), mov(r0, 0), exit_()}, BPF_PROG_TYPE_SYSCALL));
    attempt("one arena twice", program({name(arena), name(arena), mov(r0, 0), exit_()}, BPF_PROG_TYPE_SYSCALL));
    attempt("a cast without an arena", program({cast_kernel(r2, r1), mov(r0, 0), exit_()}, BPF_PROG_TYPE_SYSCALL));
    for (const int32_t imm : {0, 2, 1 << 16 | 1, 1 << 17}) {
      ProgramToLoad odd =
          program({name(arena), mov(r2, 0), cast_kernel(r2, r2), mov(r0, 0), exit_()}, BPF_PROG_TYPE_SYSCALL);
      odd.code[3].imm = imm;
      attempt("a cast to nowhere", odd);
    }
    for (const uint32_t offset : {0U, 4096U * 4, 4096U * 4 + 1, 1U << 29}) {
      attempt("a direct address",
              program({load_map_value(r1, static_cast<uint32_t>(arena), offset), mov(r0, 0), exit_()},
                      BPF_PROG_TYPE_SYSCALL));
    }
    for (const int fd : {nowhere, arena, other, array}) ::close(fd);
  });
}

/// The kernel functions sleep, and so may only what may sleep call them.
TEST_F(ArenaOracle, WhoMayCallTheKernelFunctions) {
  struct Kind {
    const char* name;
    uint32_t type, flags;
  };
  const uint32_t iterator = KernelBtf::read()->find(BtfKind::kFunc, "bpf_iter_bpf_map_elem");
  compare([&](Face& face) {
    const int arena = face.call(BPF_MAP_CREATE, arena_attr(4, kBase));
    for (const Kind& kind : {Kind{"socket filter", BPF_PROG_TYPE_SOCKET_FILTER, 0},
                             {"kprobe", BPF_PROG_TYPE_KPROBE, 0},
                             {"sleepable kprobe", BPF_PROG_TYPE_KPROBE, BPF_F_SLEEPABLE},
                             {"classifier", BPF_PROG_TYPE_SCHED_CLS, 0},
                             {"action", BPF_PROG_TYPE_SCHED_ACT, 0},
                             {"tracepoint", BPF_PROG_TYPE_TRACEPOINT, 0},
                             {"XDP", BPF_PROG_TYPE_XDP, 0},
                             {"cgroup", BPF_PROG_TYPE_CGROUP_SKB, 0},
                             {"raw tracepoint", BPF_PROG_TYPE_RAW_TRACEPOINT, 0},
                             {"iterator", BPF_PROG_TYPE_TRACING, 0},
                             {"sleepable iterator", BPF_PROG_TYPE_TRACING, BPF_F_SLEEPABLE},
                             {"system call", BPF_PROG_TYPE_SYSCALL, BPF_F_SLEEPABLE}}) {
      const auto attempt = [&](const char* what, ProgramToLoad loaded) {
        loaded.flags = kind.flags;
        bpf_attr attr = loaded.attr();
        if (kind.type == BPF_PROG_TYPE_TRACING) {
          attr.expected_attach_type = BPF_TRACE_ITER;
          attr.attach_btf_id = iterator;
        }
        const int fd = face.call(BPF_PROG_LOAD, attr);
        face.expect(std::string(kind.name) + ": " + what, fd);
        if (fd >= 0) ::close(fd);
      };
      const Code name = load_map(r1, static_cast<uint32_t>(arena));
      attempt("nothing", program({name, mov(r0, 0), exit_()}, kind.type));
      attempt("allocate", program({name, mov(r2, 0), mov(r3, 1), mov(r4, -1), mov(r5, 0), call_kernel(allocate_),
                                   mov(r0, 0), exit_()},
                                  kind.type));
      attempt("free", program({name, mov(r2, 4096), mov(r3, 1), call_kernel(free_), mov(r0, 0), exit_()}, kind.type));
      attempt("reserve",
              program({name, mov(r2, 4096), mov(r3, 1), call_kernel(reserve_), mov(r0, 0), exit_()}, kind.type));
      attempt("allocate in a function", program({call_function(2), mov(r0, 0), exit_(), name, mov(r2, 0), mov(r3, 1),
                                                 mov(r4, -1), mov(r5, 0), call_kernel(allocate_), mov(r0, 0), exit_()},
                                                kind.type));
    }
    ::close(arena);
  });
}

/// Everything that programs do with pages, at random, with clients that touch pages in between.
TEST_F(ArenaOracle, Pages) {
  uint32_t allocated = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    compare([&](Face& face) {
      std::mt19937_64 random(seed);
      const auto pages = static_cast<uint32_t>(1 + random() % 100);
      const uint64_t base = kBase + (random() % 3) * 0x7f000;
      const int map = face.call(BPF_MAP_CREATE, arena_attr(pages, base));
      const int fd = worker(map).load(face);
      face.expect("load", fd);
      if (fd < 0) return;
      auto* memory = static_cast<char*>(
          mmap(reinterpret_cast<void*>(base), pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, map, 0));
      ASSERT_EQ(memory, reinterpret_cast<void*>(base));
      for (int step = 0; step < 300; ++step) {
        const uint64_t page = base + random() % (pages + 2) * 4096;
        const uint64_t near = page + random() % 3 * 2044;
        const uint64_t few = 1 + random() % (random() % 4 == 0 ? pages + 2 : 4);
        const auto report = [&](const char* what, uint64_t result) {
          face.note(std::to_string(seed) + "." + std::to_string(step) + " " + what + " " + std::to_string(page - base),
                    static_cast<int64_t>(result));
        };
        constexpr auto kAny = static_cast<uint64_t>(-1);
        switch (random() % 12) {
          case 0:
          case 1:
          case 2:
            allocated += run(face, fd, {Request::kAllocate, 0, few, kAny, 0, 0}) != 0;
            report("allocate", run(face, fd, {Request::kAllocate, 0, few, kAny, 0, 0}));
            break;
          case 3:
            report("allocate there", run(face, fd, {Request::kAllocate, page + random() % 2 * 8, few, 0, 0, 0}));
            break;
          case 4:
          case 5:
            report("free", run(face, fd, {Request::kFree, near, few, 0, 0, 0}));
            break;
          case 6:
            if (random() % 4 == 0) report("reserve", run(face, fd, {Request::kReserve, page, few % 5, 0, 0, 0}));
            break;
          case 7:
            report("store", run(face, fd, {Request::kStore, near, random(), 0, 0, 0}));
            break;
          case 8:
            report("add", run(face, fd, {Request::kAdd, page + 64, random(), 0, 0, 0}));
            break;
          case 9:
            report("exchange", run(face, fd, {Request::kExchange, page + 64, random(), 0, 0, 0}));
            break;
          case 10:
            report("odd",
                   run(face, fd, {Request::kAllocate, 0, few, random() % 2 == 0 ? 4000 : kAny, random() % 2, 0}));
            break;
          default:
            if (page < base + pages * 4096) report("touch", static_cast<unsigned char>(++memory[page - base + 9]));
            // Both sides know of the page now, so that both choose the next ones alike.
            run(face, fd, {Request::kLoad, page, 0, 0, 0, 0});
        }
        report("load", run(face, fd, {Request::kLoad, near, 0, 0, 0, 0}));
        report("before", run(face, fd, {Request::kLoadBefore, page, 0, 0, 0, 0}));
        report("to user", run(face, fd, {Request::kToUser, random() % 4 == 0 ? 0 : near & 0xffffffff, 0, 0, 0, 0}));
      }
      munmap(memory, pages * 4096);
      ::close(fd);
      ::close(map);
    });
  }
  EXPECT_GT(allocated, 100U);
}

/// The first mapping says where the arena is; it need not be as long as the arena.
TEST_F(ArenaOracle, Windows) {
  for (const uint32_t mapped : {2U, 4U, 6U}) {
    compare([&](Face& face) {
      const int map = face.call(BPF_MAP_CREATE, arena_attr(4, 0));
      auto* memory = static_cast<char*>(mmap(nullptr, mapped * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0));
      ASSERT_NE(memory, MAP_FAILED);
      const auto base = reinterpret_cast<uint64_t>(memory);
      const int fd = worker(map).load(face);
      face.expect("load", fd);
      if (fd < 0) return;
      const auto note = [&](const char* what, uint64_t result) {
        face.note(what, static_cast<int64_t>(result == 0 ? 0 : result - base + 1));
      };
      note("too many", run(face, fd, {Request::kAllocate, 0, mapped + 1, 0, 0, 0}));
      note("behind", run(face, fd, {Request::kAllocate, base + 4 * 4096, 1, 0, 0, 0}));
      for (int i = 0; i < 6; ++i) note("one", run(face, fd, {Request::kAllocate, 0, 1, 0, 0, 0}));
      run(face, fd, {Request::kFree, base, 2, 0, 0, 0});
      for (int i = 0; i < 3; ++i) note("again", run(face, fd, {Request::kAllocate, 0, 1, 0, 0, 0}));
      munmap(memory, mapped * 4096);
      ::close(fd);
      ::close(map);
    });
  }
}

/// An address that nobody can map is one for programs all the same.
TEST_F(ArenaOracle, BeyondEveryAddress) {
  for (const uint64_t base : {uint64_t{1} << 56, uint64_t{1} << 60 | kBase | 0x7000, uint64_t{0x7fffffffffff0000}}) {
    compare([&](Face& face) {
      const int map = face.call(BPF_MAP_CREATE, arena_attr(4, base));
      face.expect("map", map);
      const int fd = worker(map).load(face);
      face.expect("load", fd);
      if (fd < 0) return;
      const auto note = [&](const char* what, Request request) {
        face.note(what, static_cast<int64_t>(run(face, fd, request)));
      };
      for (int i = 0; i < 5; ++i) note("one", {Request::kAllocate, 0, 1, 0, 0, 0});
      note("store", {Request::kStore, base + 4096, 77, 0, 0, 0});
      note("load", {Request::kLoad, base + 4096, 0, 0, 0, 0});
      note("to user", {Request::kToUser, base & UINT32_MAX, 0, 0, 0, 0});
      note("free", {Request::kFree, base + 4096, 2, 0, 0, 0});
      note("there", {Request::kAllocate, base + 2 * 4096, 1, 0, 0, 0});
      note("reserve", {Request::kReserve, base + 4096, 1, 0, 0, 0});
      note("load again", {Request::kLoad, base + 4096, 0, 0, 0, 0});
      ::close(fd);
      ::close(map);
    });
  }
}

}  // namespace
}  // namespace skep
