// SPDX-License-Identifier: Apache-2.0
// Maps of maps and program arrays: one script on skep and on the kernel, whose answers must be the same.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <random>

#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr int32_t kLookup = 1, kUpdate = 2, kTailCall = 12;
constexpr uint32_t kOuterTypes[] = {BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS};

class NestedOracle : public TwoFaces {
 protected:
  /// A descriptor made by a script, closed at its end.
  static int make(Face& face, uint32_t type, uint32_t key, uint32_t value, uint32_t entries, uint32_t flags = 0,
                  int inner = 0) {
    bpf_attr attr = map_attr(type, key, value, entries, flags);
    attr.inner_map_fd = static_cast<uint32_t>(inner);
    return face.call(BPF_MAP_CREATE, attr);
  }
  static int set(Face& face, int map, uint32_t key, int fd, uint64_t flags = 0) {
    return face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &fd, flags));
  }
  static int erase(Face& face, int map, uint32_t key) {
    return face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &key, nullptr));
  }
  /// The id that a lookup shows, or -errno.
  static int64_t get(Face& face, int map, uint32_t key, uint64_t flags = 0) {
    uint32_t id = 0;
    const int result = face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &key, &id, flags));
    return result < 0 ? result : int64_t{id};
  }
  static uint32_t id_of(Face& face, int fd, bool program = false) {
    bpf_map_info map{};
    bpf_prog_info prog = no_info();
    bpf_attr attr = no_attr();
    attr.info.bpf_fd = static_cast<uint32_t>(fd);
    attr.info.info_len = program ? sizeof prog : sizeof map;
    attr.info.info = program ? reinterpret_cast<uint64_t>(&prog) : reinterpret_cast<uint64_t>(&map);
    if (face.call(BPF_OBJ_GET_INFO_BY_FD, attr) < 0) return 0;
    return program ? prog.id : map.id;
  }
  static int run(Face& face, int program) {
    std::array<char, 64> packet{};
    bpf_attr attr = run_attr(program);
    attr.test.data_in = reinterpret_cast<uint64_t>(packet.data());
    attr.test.data_size_in = packet.size();
    const int result = face.call(BPF_PROG_TEST_RUN, &attr, sizeof attr);
    return result < 0 ? result : static_cast<int>(attr.test.retval);
  }
  /// Which of `fds` has the id; else what came.
  static std::string which(Face& face, int64_t id, const std::vector<int>& fds) {
    for (size_t i = 0; i < fds.size(); ++i)
      if (id > 0 && id_of(face, fds[i]) == id) return "inner " + std::to_string(i);
    return id > 0 ? "a stranger" : std::to_string(id);
  }
  /// A program that returns what is at 1 in the inner map at `key`; 100: no inner map, 101: no value.
  static ProgramToLoad reader(int outer, int32_t key) {
    return program({store(kW, r10, -4, key), mov(r2, r10), add(r2, -4), load_map(r1, static_cast<uint32_t>(outer)),
                    call(kLookup), jump_if(kJne, r0, 0, 2), mov(r0, 100), exit_(), mov(r1, r0), store(kW, r10, -4, 1),
                    mov(r2, r10), add(r2, -4), call(kLookup), jump_if(kJne, r0, 0, 2), mov(r0, 101), exit_(),
                    load(kDw, r0, r0, 0), exit_()});
  }
  static void close_all(std::initializer_list<int> fds) {
    for (const int fd : fds)
      if (fd >= 0) ::close(fd);
  }
};

TEST_F(NestedOracle, CreateMatrix) {
  compare([](Face& face) {
    const int inner = make(face, BPF_MAP_TYPE_HASH, 4, 8, 4);
    for (const uint32_t type : {BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS}) {
      const auto attempt = [&](const std::string& what, uint32_t key, uint32_t value, uint32_t entries,
                               uint32_t flags) {
        const int fd = make(face, type, key, value, entries, flags, inner);
        face.expect(std::to_string(type) + " " + what, fd);
        close_all({fd});
      };
      for (const uint32_t key : {0U, 1U, 3U, 4U, 5U, 8U}) attempt("key " + std::to_string(key), key, 4, 4, 0);
      for (const uint32_t value : {0U, 3U, 4U, 5U, 8U}) attempt("value " + std::to_string(value), 4, value, 4, 0);
      for (const uint32_t entries : {0U, 1U, 3U}) attempt("entries " + std::to_string(entries), 4, 4, entries, 0);
      for (uint32_t bit = 0; bit < 20; ++bit) {
        if (bit == 16) continue;  // a token
        attempt("flag " + std::to_string(bit), 4, 4, 4, 1U << bit);
      }
      attempt("read only and write only", 4, 4, 4, BPF_F_RDONLY | BPF_F_WRONLY);
    }
    close_all({inner});
  });
}

TEST_F(NestedOracle, InnerTemplates) {
  compare([](Face& face) {
    const int hash = make(face, BPF_MAP_TYPE_HASH, 4, 8, 4);
    const int nested = make(face, BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 2, 0, hash);
    const int programs = make(face, BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2);
    const int prog = returning(0).load(face);
    const int file = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (const uint32_t type : kOuterTypes) {
      const auto attempt = [&](const std::string& what, int inner) {
        const int fd = make(face, type, 4, 4, 2, 0, inner);
        face.expect(std::to_string(type) + " of " + what, fd);
        close_all({fd});
      };
      attempt("hash", hash);
      attempt("maps", nested);
      attempt("programs", programs);
      attempt("a program", prog);
      attempt("a file", file);
      attempt("nothing", -1);
      attempt("a closed one", 4000);
      for (const uint32_t inner : {BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH}) {
        const int fd = make(face, inner, 4, 8, 4);
        attempt(std::to_string(inner), fd);
        close_all({fd});
      }
    }
    close_all({hash, nested, programs, prog, file});
  });
}

TEST_F(NestedOracle, OnlyMapsLikeTheTemplateGoIn) {
  compare([](Face& face) {
    for (const uint32_t type : kOuterTypes) {
      for (const uint32_t inner : {BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY}) {
        const int like = make(face, inner, 4, 8, 4);
        const int outer = make(face, type, 4, 4, 4, 0, like);
        const auto attempt = [&](const std::string& what, int fd) {
          face.expect(std::to_string(type) + "/" + std::to_string(inner) + " " + what, set(face, outer, 1, fd));
          close_all({fd});
        };
        attempt("the same", make(face, inner, 4, 8, 4));
        attempt("more entries", make(face, inner, 4, 8, 5));
        attempt("fewer entries", make(face, inner, 4, 8, 3));
        attempt("another value", make(face, inner, 4, 16, 4));
        attempt("read only for programs", make(face, inner, 4, 8, 4, BPF_F_RDONLY_PROG));
        attempt("read only descriptor", make(face, inner, 4, 8, 4, BPF_F_RDONLY));
        attempt("for inner use", make(face, inner, 4, 8, 4, BPF_F_INNER_MAP));
        attempt("not preallocated", make(face, inner, 4, 8, 4, BPF_F_NO_PREALLOC));
        attempt("a map of maps", make(face, type, 4, 4, 4, 0, like));
        attempt("a closed one", -1);
        attempt("a file", ::open("/dev/null", O_RDONLY | O_CLOEXEC));
        attempt("a program", returning(0).load(face));
        face.expect("itself", set(face, outer, 1, outer));
        close_all({like, outer});
      }
      const int like = make(face, BPF_MAP_TYPE_ARRAY, 4, 8, 4, BPF_F_INNER_MAP);
      const int outer = make(face, type, 4, 4, 4, 0, like);
      const int longer = make(face, BPF_MAP_TYPE_ARRAY, 4, 8, 9, BPF_F_INNER_MAP);
      const int plain = make(face, BPF_MAP_TYPE_ARRAY, 4, 8, 4);
      face.expect("longer, for inner use", set(face, outer, 1, longer));
      face.expect("plain", set(face, outer, 1, plain));
      close_all({like, outer, longer, plain});
    }
  });
}

TEST_F(NestedOracle, ElementsOfMapsOfMaps) {
  compare([](Face& face) {
    for (const uint32_t type : kOuterTypes) {
      const std::vector<int> inner = {make(face, BPF_MAP_TYPE_HASH, 4, 8, 4), make(face, BPF_MAP_TYPE_HASH, 4, 8, 9)};
      const int outer = make(face, type, 4, 4, 3, 0, inner[0]);
      const auto note = [&](const std::string& what, int64_t result) {
        face.note(std::to_string(type) + " " + what, which(face, result, inner));
      };
      note("empty", get(face, outer, 1));
      note("delete empty", erase(face, outer, 1));
      note("out of range", get(face, outer, 3));
      note("delete out of range", erase(face, outer, 3));
      for (const uint64_t flags : {0ULL, 1ULL, 2ULL, 3ULL, 4ULL, 8ULL, 1ULL << 32})
        for (const uint32_t key : {1U, 3U}) {
          note("set flags " + std::to_string(flags) + " key " + std::to_string(key),
               set(face, outer, key, inner[0], flags));
          note("bad fd", set(face, outer, key, -1, flags));
          note("get", get(face, outer, key));
          note("get flags", get(face, outer, key, flags));
          note("replace", set(face, outer, key, inner[1], flags));
          note("get again", get(face, outer, key));
        }
      note("delete", erase(face, outer, 1));
      note("get deleted", get(face, outer, 1));
      uint32_t key = 7, next = 0, value = 0;
      face.expect("next", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(outer, nullptr, &next)));
      face.expect("no key", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(outer, nullptr, &value)));
      face.expect("no value", face.call(BPF_MAP_UPDATE_ELEM, element_attr(outer, &key, nullptr)));
      face.expect("take", face.call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, element_attr(outer, &key, &value)));
      bpf_attr freeze = no_attr();
      freeze.map_fd = static_cast<uint32_t>(outer);
      note("set", set(face, outer, 2, inner[0]));
      face.expect("freeze", face.call(BPF_MAP_FREEZE, freeze));
      note("set frozen", set(face, outer, 2, inner[1]));
      note("delete frozen", erase(face, outer, 2));
      note("get frozen", get(face, outer, 2));
      close_all({inner[0], inner[1], outer});
    }
  });
}

TEST_F(NestedOracle, Batches) {
  compare([](Face& face) {
    for (const uint32_t type : {BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS, BPF_MAP_TYPE_PROG_ARRAY}) {
      const bool programs = type == BPF_MAP_TYPE_PROG_ARRAY;
      const int inner = make(face, BPF_MAP_TYPE_HASH, 4, 8, 4);
      const int prog = returning(1).load(face);
      const int outer = make(face, type, 4, 4, 4, 0, programs ? 0 : inner);
      const auto batch = [&](const std::string& what, int cmd, uint32_t count, uint64_t elem_flags, int bad = -1) {
        uint32_t keys[8] = {0, 2, 3, 1, 9, 9, 9, 9};
        uint32_t values[8], cursor[2] = {77, 77};
        for (auto& value : values) value = static_cast<uint32_t>(programs ? prog : inner);
        if (bad >= 0) values[bad] = 4000;
        bpf_attr attr = no_attr();
        attr.batch.map_fd = static_cast<uint32_t>(outer);
        attr.batch.keys = reinterpret_cast<uint64_t>(keys);
        attr.batch.values = reinterpret_cast<uint64_t>(values);
        attr.batch.out_batch = reinterpret_cast<uint64_t>(cursor);
        attr.batch.count = count;
        attr.batch.elem_flags = elem_flags;
        const int result = face.call(cmd, &attr, sizeof attr);
        face.note(std::to_string(type) + " " + what, result);
        face.note("count", attr.batch.count);
        if (cmd != BPF_MAP_LOOKUP_BATCH && cmd != BPF_MAP_LOOKUP_AND_DELETE_BATCH) return;
        if (result != 0 && result != -ENOENT) return;
        std::sort(keys, keys + std::min(attr.batch.count, 8U));
        for (uint32_t i = 0; i < std::min(attr.batch.count, 8U); ++i) {
          face.note("key", keys[i]);
          face.note("value", values[i] == id_of(face, inner));
        }
      };
      batch("update", BPF_MAP_UPDATE_BATCH, 3, 0);
      batch("update existing only", BPF_MAP_UPDATE_BATCH, 3, 2);
      batch("lookup", BPF_MAP_LOOKUP_BATCH, 8, 0);
      batch("lookup all", BPF_MAP_LOOKUP_BATCH, 3, 0);
      batch("update bad", BPF_MAP_UPDATE_BATCH, 4, 0, 2);
      batch("lookup locked", BPF_MAP_LOOKUP_BATCH, 3, 4);
      batch("delete", BPF_MAP_DELETE_BATCH, 2, 0);
      batch("lookup after", BPF_MAP_LOOKUP_BATCH, 8, 0);
      batch("take", BPF_MAP_LOOKUP_AND_DELETE_BATCH, 8, 0);
      batch("lookup at last", BPF_MAP_LOOKUP_BATCH, 8, 0);
      close_all({inner, prog, outer});
    }
  });
}

TEST_F(NestedOracle, AnInnerMapLivesAsLongAsItIsInAnOuterOne) {
  compare([](Face& face) {
    for (const uint32_t type : kOuterTypes) {
      int inner = make(face, BPF_MAP_TYPE_HASH, 4, 8, 4);
      const int other = make(face, BPF_MAP_TYPE_HASH, 4, 8, 4);
      const int outer = make(face, type, 4, 4, 4, 0, inner);
      const uint32_t key = 5;
      const uint64_t value = 55;
      face.call(BPF_MAP_UPDATE_ELEM, element_attr(inner, &key, &value));
      const uint32_t id = id_of(face, inner);
      face.expect("set", set(face, outer, 0, inner));
      face.expect("set twice", set(face, outer, 1, inner));
      ::close(inner);
      bpf_attr by_id = no_attr();
      by_id.map_id = id;
      inner = face.call(BPF_MAP_GET_FD_BY_ID, by_id);
      face.expect("by id", inner);
      uint64_t found = 0;
      face.call(BPF_MAP_LOOKUP_ELEM, element_attr(inner, &key, &found));
      face.note("content", static_cast<int64_t>(found));
      ::close(inner);
      face.expect("replace one", set(face, outer, 0, other));
      inner = face.call(BPF_MAP_GET_FD_BY_ID, by_id);
      face.expect("still there", inner);
      ::close(inner);
      face.expect("erase the other", erase(face, outer, 1));
      if (face.is_kernel()) ::usleep(100'000);  // it frees maps a grace period later
      face.expect("gone", face.call(BPF_MAP_GET_FD_BY_ID, by_id));
      close_all({other, outer});
    }
  });
}

TEST_F(NestedOracle, ProgramsUseInnerMaps) {
  compare([](Face& face) {
    for (const uint32_t type : kOuterTypes) {
      const int inner = make(face, BPF_MAP_TYPE_ARRAY, 4, 8, 4);
      const int other = make(face, BPF_MAP_TYPE_ARRAY, 4, 8, 4);
      const int outer = make(face, type, 4, 4, 4, 0, inner);
      // The value at 1 in the inner map at 2, which then is 7 more; 100: no inner map, 101: no value.
      const int prog = program({store(kW, r10, -4, 2),
                                mov(r2, r10),
                                add(r2, -4),
                                load_map(r1, static_cast<uint32_t>(outer)),
                                call(kLookup),
                                jump_if(kJne, r0, 0, 2),
                                mov(r0, 100),
                                exit_(),
                                mov(r6, r0),
                                store(kW, r10, -4, 1),
                                mov(r1, r6),
                                mov(r2, r10),
                                add(r2, -4),
                                call(kLookup),
                                jump_if(kJne, r0, 0, 2),
                                mov(r0, 101),
                                exit_(),
                                load(kDw, r7, r0, 0),
                                mov(r8, r7),
                                add(r8, 7),
                                store(kDw, r10, -16, r8),
                                mov(r1, r6),
                                mov(r2, r10),
                                add(r2, -4),
                                mov(r3, r10),
                                add(r3, -16),
                                mov(r4, 0),
                                call(kUpdate),
                                mov(r0, r7),
                                exit_()})
                           .load(face);
      face.expect("load", prog);
      face.note("empty", run(face, prog));
      face.expect("set", set(face, outer, 2, inner));
      face.note("first", run(face, prog));
      face.note("second", run(face, prog));
      face.expect("set other", set(face, outer, 2, other));
      face.note("other", run(face, prog));
      face.expect("set back", set(face, outer, 2, inner));
      face.note("third", run(face, prog));
      face.expect("erase", erase(face, outer, 2));
      face.note("empty again", run(face, prog));
      close_all({inner, other, outer, prog});
    }
  });
}

TEST_F(NestedOracle, ElementsOfProgramArrays) {
  compare([](Face& face) {
    const int array = make(face, BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 3);
    const int prog = returning(1).load(face);
    const int xdp = returning(1, BPF_PROG_TYPE_XDP).load(face);
    const int map = make(face, BPF_MAP_TYPE_HASH, 4, 8, 4);
    const uint32_t id = id_of(face, prog, true);
    const auto note = [&](const std::string& what, int64_t result) {
      face.note(what, result > 0 && result == id ? "the program" : std::to_string(result));
    };
    note("empty", get(face, array, 0));
    note("out of range", get(face, array, 3));
    note("delete empty", erase(face, array, 0));
    note("delete out of range", erase(face, array, 3));
    for (const uint64_t flags : {0ULL, 1ULL, 2ULL, 4ULL}) {
      note("set", set(face, array, 1, prog, flags));
      note("set out of range", set(face, array, 3, prog, flags));
      note("set nothing", set(face, array, 1, -1, flags));
      note("set a map", set(face, array, 1, map, flags));
      note("set nothing out of range", set(face, array, 3, -1, flags));
    }
    note("get", get(face, array, 1));
    note("get flags", get(face, array, 1, 4));
    note("of another type", set(face, array, 2, xdp));
    note("delete", erase(face, array, 1));
    note("still of another type", set(face, array, 2, xdp));
    uint32_t key = 1, value = 0;
    face.expect("take", face.call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, element_attr(array, &key, &value)));
    face.expect("next", face.call(BPF_MAP_GET_NEXT_KEY, element_attr(array, &key, &value)));
    face.note("next key", value);
    bpf_attr freeze = no_attr();
    freeze.map_fd = static_cast<uint32_t>(array);
    face.expect("freeze", face.call(BPF_MAP_FREEZE, freeze));
    note("set frozen", set(face, array, 1, prog));
    close_all({array, prog, xdp, map});
  });
}

TEST_F(NestedOracle, AProgramThatNamesAnArrayOwnsIt) {
  compare([](Face& face) {
    const int array = make(face, BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 3);
    const auto caller = [&](uint32_t type) {
      return program({load_map(r2, static_cast<uint32_t>(array)), mov(r3, 0), call(kTailCall), mov(r0, 0), exit_()},
                     type);
    };
    const int first = caller(BPF_PROG_TYPE_XDP).load(face);
    face.expect("load", first);
    const int filter = returning(1).load(face);
    const int xdp = returning(1, BPF_PROG_TYPE_XDP).load(face);
    face.expect("another type", set(face, array, 0, filter));
    face.expect("its type", set(face, array, 0, xdp));
    const int second = caller(BPF_PROG_TYPE_SOCKET_FILTER).load(face);
    face.expect("load another type", second);
    close_all({array, first, filter, xdp, second});
  });
}

TEST_F(NestedOracle, TailCalls) {
  compare([](Face& face) {
    const int array = make(face, BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4);
    const int counter = make(face, BPF_MAP_TYPE_ARRAY, 4, 8, 1);
    // Counts itself, calls the program at `index`, and where there is none returns `otherwise`.
    const auto link = [&](int32_t index, int32_t otherwise) {
      return program({mov(r6, r1), load_map_value(r1, static_cast<uint32_t>(counter), 0), load(kDw, r2, r1, 0),
                      add(r2, 1), store(kDw, r1, 0, r2), mov(r1, r6), load_map(r2, static_cast<uint32_t>(array)),
                      mov(r3, index), call(kTailCall), mov(r0, otherwise), exit_()})
          .load(face);
    };
    const auto count = [&] {
      const uint32_t key = 0;
      uint64_t value = 0, zero = 0;
      face.call(BPF_MAP_LOOKUP_ELEM, element_attr(counter, &key, &value));
      face.call(BPF_MAP_UPDATE_ELEM, element_attr(counter, &key, &zero));
      return static_cast<int64_t>(value);
    };
    const int self = link(0, 10), next = link(2, 11), out = link(9, 12), minus = link(-1, 13);
    const int last = returning(77).load(face);
    const auto note = [&](const std::string& what, int program) {
      face.note(what, run(face, program));
      face.note("count", count());
    };
    face.expect("load", self);
    note("empty", self);
    note("out of range", out);
    note("far out of range", minus);
    face.expect("set", set(face, array, 0, self));
    note("itself until the limit", self);
    face.expect("set", set(face, array, 2, last));
    note("the last", next);
    face.expect("set", set(face, array, 0, next));
    note("through two", self);
    face.expect("erase", erase(face, array, 2));
    note("one is gone", self);
    close_all({array, counter, self, next, out, minus, last});
  });
}

TEST_F(NestedOracle, AnArrayIsEmptiedWithItsLastDescriptor) {
  compare([](Face& face) {
    int array = make(face, BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4);
    const int target = returning(5).load(face);
    const int caller =
        program({load_map(r2, static_cast<uint32_t>(array)), mov(r3, 1), call(kTailCall), mov(r0, 7), exit_()})
            .load(face);
    face.expect("set", set(face, array, 1, target));
    face.note("full", run(face, caller));
    bpf_attr by_id = no_attr();
    by_id.map_id = id_of(face, array);
    const int second = ::dup(array);
    ::close(array);
    face.note("a descriptor is left", run(face, caller));
    ::close(second);
    // The kernel empties it in a worker of its own time.
    for (int i = 0; face.is_kernel() && i < 1000 && run(face, caller) != 7; ++i) ::usleep(1000);
    face.note("emptied", run(face, caller));
    array = face.call(BPF_MAP_GET_FD_BY_ID, by_id);
    face.expect("by id", array);
    face.note("still empty", get(face, array, 1));
    face.expect("set again", set(face, array, 1, target));
    face.note("full again", run(face, caller));
    close_all({array, target, caller});
  });
}

TEST_F(NestedOracle, RandomElements) {
  const char* seed_text = ::getenv("SKEP_ORACLE_SEED");
  const unsigned seed = seed_text != nullptr ? static_cast<unsigned>(::atoi(seed_text)) : std::random_device{}();
  SCOPED_TRACE("SKEP_ORACLE_SEED=" + std::to_string(seed));
  compare([seed](Face& face) {
    std::mt19937 random(seed);
    for (const uint32_t type : kOuterTypes) {
      std::vector<int> inner;
      uint32_t made = 0;
      const auto make_inner = [&](uint32_t entries) {
        const int map = make(face, BPF_MAP_TYPE_HASH, 4, 8, entries);
        const uint32_t key = 1;
        const uint64_t content = 1000 + made++;  // by which a program tells it
        EXPECT_EQ(face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &content)), 0);
        return map;
      };
      for (uint32_t i = 0; i < 5; ++i) inner.push_back(make_inner(1 + i));
      const int outer =
          make(face, type, 4, 4, 6, random() % 2 == 0 && type == BPF_MAP_TYPE_HASH_OF_MAPS ? 1U : 0U, inner[0]);
      std::vector<int> readers;
      for (int32_t key = 0; key < 3; ++key) readers.push_back(reader(outer, key).load(face));
      for (int step = 0; step < 300; ++step) {
        const uint32_t key = random() % 8;
        const int map = random() % 16 == 0 ? -1 : inner[random() % inner.size()];
        const uint64_t flags = random() % 4 == 0 ? random() % 5 : 0;
        switch (random() % 7) {
          case 0:
          case 1:
            face.note("set", set(face, outer, key, map, flags));
            break;
          case 2:
            face.note("erase", erase(face, outer, key));
            break;
          case 3: {
            const size_t at =
                random() % inner.size();  // a new map in the place of an old one, which may live on inside
            ::close(inner[at]);
            inner[at] = make_inner(3);
            break;
          }
          case 4: {
            uint32_t keys[3], values[3];
            for (uint32_t i = 0; i < 3; ++i) {
              keys[i] = static_cast<uint32_t>(random() % 7);
              values[i] = static_cast<uint32_t>(inner[random() % inner.size()]);
            }
            bpf_attr batch = no_attr();
            batch.batch.map_fd = static_cast<uint32_t>(outer);
            batch.batch.keys = reinterpret_cast<uint64_t>(keys);
            batch.batch.values = reinterpret_cast<uint64_t>(values);
            batch.batch.count = 3;
            face.note("batch",
                      face.call(random() % 3 == 0 ? BPF_MAP_DELETE_BATCH : BPF_MAP_UPDATE_BATCH, &batch, sizeof batch));
            face.note("done", batch.batch.count);
            break;
          }
          case 5:
            face.note("read", run(face, readers[random() % readers.size()]));
            break;
          default:
            face.note("get", which(face, get(face, outer, key), inner));
        }
      }
      for (const int fd : inner) ::close(fd);
      for (const int fd : readers) ::close(fd);
      ::close(outer);
    }
  });
}

}  // namespace
}  // namespace skep
