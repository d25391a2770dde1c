// SPDX-License-Identifier: Apache-2.0
// Rules that one would not guess and that no other comparison with the kernel meets.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <vector>

#include "btf/btf_builder.h"
#include "kind_forms.h"
#include "syscall/fdinfo.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr uint32_t kHashes[] = {BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_HASH,
                                BPF_MAP_TYPE_LRU_PERCPU_HASH};

class SurprisesOracle : public TwoFaces {
 protected:
  static int make(Face& face, uint32_t type, uint32_t entries, uint32_t flags = 0) {
    return face.call(BPF_MAP_CREATE, map_attr(type, 4, 8, entries, flags));
  }
  static int set(Face& face, int map, uint32_t key) {
    const std::vector<uint64_t> values(512, key);
    return face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, values.data()));
  }
  static bool has(Face& face, int map, uint32_t key) {
    std::vector<uint64_t> values(512);
    return face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &key, values.data())) == 0;
  }
  /// Every key in the order of the map; ends early after 10,000.
  static std::vector<uint32_t> walk(Face& face, int map) {
    std::vector<uint32_t> keys;
    uint32_t key = 0;
    while (keys.size() < 10000 &&
           face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, keys.empty() ? nullptr : &keys.back(), &key)) == 0)
      keys.push_back(key);
    return keys;
  }
  static int freeze(Face& face, int map) {
    bpf_attr attr = no_attr();
    attr.map_fd = static_cast<uint32_t>(map);
    return face.call(BPF_MAP_FREEZE, attr);
  }
  static int load_types(Face& face, const BtfBuilder& types) {
    const auto raw = types.raw();
    bpf_attr attr = no_attr();
    attr.btf = reinterpret_cast<uint64_t>(raw.data());
    attr.btf_size = static_cast<uint32_t>(raw.size());
    return face.call(BPF_BTF_LOAD, attr);
  }
};

/// A walk that deletes what it is at begins again and again; so does one at a key that never was.
TEST_F(SurprisesOracle, TheKeyAfterAMissingOneIsTheFirst) {
  compare([](Face& face) {
    for (const uint32_t type : kHashes) {
      const int map = make(face, type, 1024);
      for (uint32_t key = 0; key < 60; ++key) EXPECT_EQ(set(face, map, key), 0);
      const std::string what = "type " + std::to_string(type);
      for (int round = 0; round < 60; ++round) {
        const auto keys = walk(face, map);
        face.note(what, static_cast<int64_t>(keys.size()));
        const uint32_t victim = keys[keys.size() / 2], never = 4711;
        face.note(what + " delete", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &victim, nullptr)));
        uint32_t first = 0, after = 0, after_none = 0;
        face.note(what + " first", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, nullptr, &first)));
        face.note(what + " after", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, &victim, &after)));
        face.note(what + " after none", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, &never, &after_none)));
        face.note(what + " the same", first == after && first == after_none);
      }
      ::close(map);
    }
  });
}

TEST_F(SurprisesOracle, WithoutASeedTwoMapsHaveOneOrder) {
  compare([](Face& face) {
    for (const uint32_t type : kHashes) {
      std::array<std::vector<uint32_t>, 2> orders;
      for (auto& order : orders) {
        const int map = make(face, type, 1024, BPF_F_ZERO_SEED);
        for (uint32_t key = 0; key < 300; ++key) EXPECT_EQ(set(face, map, key * 7919), 0);
        order = walk(face, map);
        ::close(map);
      }
      face.note("keys", static_cast<int64_t>(orders[0].size()));
      face.note("the same order", orders[0] == orders[1]);
    }
  });
}

/// What a program looks up stays; that a client looks at it says nothing of its use.
TEST_F(SurprisesOracle, OnlyProgramsKeepKeysFromEviction) {
  constexpr uint32_t kEntries = 512, kTouched = 50;
  // The kernel keeps the last keys of each CPU apart: a thread that moved would leave the first ones behind.
  cpu_set_t before, here;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&here);
  CPU_SET(static_cast<size_t>(::sched_getcpu()), &here);
  ASSERT_EQ(::sched_setaffinity(0, sizeof here, &here), 0);
  compare([](Face& face) {
    for (const uint32_t type : {BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH}) {
      for (const bool by_program : {false, true}) {
        const int map = make(face, type, kEntries);
        // Half of the map, so that nothing has gone when the first keys are looked up.
        for (uint32_t key = 0; key < kEntries / 2; ++key) EXPECT_EQ(set(face, map, key), 0);
        ProgramToLoad looker =
            program({load(kDw, r1, r1, 0), store(kW, r10, -4, r1), load_map(r1, static_cast<uint32_t>(map)),
                     mov(r2, r10), add(r2, -4), call(1), jump_if(kJeq, r0, 0, 1), mov(r0, 1), exit_()});
        looker.type = BPF_PROG_TYPE_RAW_TRACEPOINT;
        const int fd = looker.load(face);
        face.expect("load", fd);
        for (uint64_t key = 0; key < kTouched; ++key) {
          if (!by_program) {
            EXPECT_TRUE(has(face, map, static_cast<uint32_t>(key)));
            continue;
          }
          bpf_attr run = run_attr(fd);
          run.test.ctx_in = reinterpret_cast<uint64_t>(&key);
          run.test.ctx_size_in = sizeof key;
          EXPECT_EQ(face.call(BPF_PROG_TEST_RUN, &run, sizeof run), 0);
          EXPECT_EQ(run.test.retval, 1U);
        }
        // As many new ones as there were when the map is full: of the old ones only what was in use can be left.
        for (uint32_t key = 1000; key < 1000 + kEntries / 2 + 150; ++key) EXPECT_EQ(set(face, map, key), 0);
        uint32_t left = 0;
        for (uint32_t key = 0; key < kTouched; ++key) left += has(face, map, key);
        face.note(by_program ? "all that programs used are left" : "some that clients saw have gone",
                  by_program ? left == kTouched : left < kTouched);
        ::close(fd);
        ::close(map);
      }
    }
  });
  ::sched_setaffinity(0, sizeof before, &before);
}

TEST_F(SurprisesOracle, FieldsThatAreTooManyAndLocksThatAreOthers) {
  compare([](Face& face) {
    for (const char* name : {"bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_task_work"}) {
      BtfBuilder b;
      const uint32_t u32 = b.integer("unsigned int", 4), u64 = b.integer("unsigned long", 8);
      const bool lock = std::string_view(name).ends_with("lock");
      const uint32_t words = std::string_view(name) == "bpf_task_work" ? 1 : 2, bytes = lock ? 4 : 8 * words;
      const uint32_t field = b.structure(name, bytes, {{"opaque", lock ? u32 : b.array(u64, u32, words), 0}});
      b.structure("two", 48, {{"first", field, 0}, {"second", field, 128}, {"rest", u64, 256}});
      face.expect(std::string("two of ") + name, load_types(face, b));
    }
    for (const char* name : {"bpf_spin_lock", "bpf_res_spin_lock"}) {
      BtfBuilder b;
      const uint32_t u32 = b.integer("unsigned int", 4);
      const uint32_t lock = b.structure(name, 4, {{"val", u32, 0}});
      const uint32_t value = b.structure("value", 8, {{"lock", lock, 0}, {"number", u32, 32}});
      const int btf = load_types(face, b);
      face.expect(name, btf);
      for (const uint32_t flags : {0U, uint32_t{BPF_F_MMAPABLE}}) {
        bpf_attr attr = map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 2, flags);
        attr.btf_fd = static_cast<uint32_t>(btf);
        attr.btf_key_type_id = u32;
        attr.btf_value_type_id = value;
        const int map = face.call(BPF_MAP_CREATE, attr);
        face.expect("create", map);
        const uint32_t key = 1;
        uint64_t bits = 7ULL << 32;
        for (const uint64_t lock_flags : {uint64_t{0}, uint64_t{BPF_F_LOCK}, uint64_t{BPF_F_LOCK} | BPF_EXIST}) {
          face.note("update", face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &bits, lock_flags)));
          face.note("lookup", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &key, &bits, lock_flags)));
          face.note("value", static_cast<int64_t>(bits));
        }
        face.note("freeze", freeze(face, map));
        ::close(map);
      }
      ::close(btf);
    }
  });
}

/// A writable mapping is one too many for freezing also where a child has it alone.
TEST_F(SurprisesOracle, AChildsMappingKeepsAMapFromFreezing) {
  compare([](Face& face) {
    const int map = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 512, BPF_F_MMAPABLE));
    void* window = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
    ASSERT_NE(window, MAP_FAILED);
    int until[2];
    ASSERT_EQ(::pipe(until), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      char end;
      ::close(until[1]);
      ::_exit(static_cast<int>(::read(until[0], &end, 1)));
    }
    ::close(until[0]);
    face.note("both map it", freeze(face, map));
    ::munmap(window, 4096);
    face.note("the child maps it", freeze(face, map));
    ::close(until[1]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    face.note("child", status);
    face.note("nobody maps it", freeze(face, map));
    ::close(map);
  });
}

/// What /proc shows of a map of each kind, new and frozen, but for what is each side's own.
TEST_F(SurprisesOracle, FdinfoOfEveryKind) {
  compare([&](Face& face) {
    for (const oracle::KindForm& form : oracle::kind_forms()) {
      if (form.needs_btf) continue;
      const int inner = make(face, BPF_MAP_TYPE_HASH, 4);
      bpf_attr attr = map_attr(form.type, form.key_size, form.value_size, form.max_entries, form.flags);
      if (form.of_maps) attr.inner_map_fd = static_cast<uint32_t>(inner);
      const int map = face.call(BPF_MAP_CREATE, attr);
      face.expect(form.name, map);
      for (const bool frozen : {false, true}) {
        if (frozen) face.note("freeze", freeze(face, map));
        std::stringstream text;
        if (face.is_kernel()) {
          text << std::ifstream("/proc/self/fdinfo/" + std::to_string(map)).rdbuf();
        } else {
          text << fdinfo_text(*process_, map);
        }
        for (std::string line; std::getline(text, line);) {
          const std::string name = line.substr(0, line.find('\t'));
          const bool own = name == "mnt_id:" || name == "ino:" || name == "memlock:" || name == "map_id:";
          face.note(form.name, own ? name : line);
        }
      }
      ::close(map);
      ::close(inner);
    }
  });
}

/// What clients find of the stacks that a program kept: under numbers that are each side's own.
TEST_F(SurprisesOracle, NumbersOfStacks) {
  compare([](Face& face) {
    for (const bool take : {false, true}) {
      const int map = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_STACK_TRACE, 4, 80, 64));
      constexpr int32_t kUserStack = 256, kGetStackId = 27;
      ProgramToLoad keeper = program(
          {load_map(r2, static_cast<uint32_t>(map)), mov(r3, kUserStack), assembler::call(kGetStackId), exit_()});
      keeper.type = BPF_PROG_TYPE_RAW_TRACEPOINT;
      const int fd = keeper.load(face);
      bpf_attr run = run_attr(fd);
      face.expect("run", face.call(BPF_PROG_TEST_RUN, &run, sizeof run));
      const uint32_t number = run.test.retval, other = (number + 1) % 64;
      uint32_t next = 99;
      std::array<uint64_t, 10> stack{};
      face.note("in range", number < 64);
      for (int round = 0; round < 2; ++round) {
        face.note("first", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, nullptr, &next)));
        face.note("it", next == number);
        face.note("after it", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(map, &number, &next)));
        face.note("lookup", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &number, stack.data())));
        face.note("has a frame", stack[0] != 0);
        face.note("lookup of another", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &other, stack.data())));
        for (const uint64_t flags : {0U, 1U, 2U})
          face.note("update", face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &number, stack.data(), flags)));
        face.note("delete of another", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &other, nullptr)));
        face.note("end", take ? face.call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, element_attr(map, &number, stack.data()))
                              : face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &number, nullptr)));
      }
      ::close(fd);
      ::close(map);
    }
  });
}

/// A descriptor by id of a frozen map can write by its mode; the map still cannot be written.
TEST_F(SurprisesOracle, DescriptorsOfAFrozenMap) {
  compare([](Face& face) {
    const int map = make(face, BPF_MAP_TYPE_HASH, 4);
    face.note("update", set(face, map, 1));
    face.note("freeze", freeze(face, map));
    bpf_map_info info;
    std::memset(&info, 0, sizeof info);
    bpf_attr attr = no_attr();
    attr.info.bpf_fd = static_cast<uint32_t>(map);
    attr.info.info = reinterpret_cast<uint64_t>(&info);
    attr.info.info_len = 100;
    EXPECT_EQ(face.call(BPF_OBJ_GET_INFO_BY_FD, attr), 0);
    for (const uint32_t flags : {0U, uint32_t{BPF_F_RDONLY}, uint32_t{BPF_F_WRONLY}}) {
      attr = no_attr();
      attr.map_id = info.id;
      attr.open_flags = flags;
      const int again = face.call(BPF_MAP_GET_FD_BY_ID, attr);
      face.expect("by id", again);
      face.note("mode", ::fcntl(again, F_GETFL) & O_ACCMODE);
      const uint32_t key = 1;
      face.note("update", set(face, again, 1));
      face.note("delete", face.call(BPF_MAP_DELETE_ELEM, element_attr(again, &key, nullptr)));
      face.note("lookup", has(face, again, 1));
      ::close(again);
    }
    ::close(map);
  });
}

}  // namespace
}  // namespace skep
