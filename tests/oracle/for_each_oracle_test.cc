// SPDX-License-Identifier: Apache-2.0
// bpf_for_each_map_elem() on maps of every kind, on skep and on the kernel.
#include <array>

#include "btf/btf_builder.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr int32_t kForEach = 164, kDelete = 3;
constexpr int32_t kErase = 1;  // the callback deletes what it is shown
constexpr int32_t kStop = 2;   // ... and ends the walk

/// What the program adds up, in an ARRAY of one entry.
struct Sums {
  uint64_t keys;
  uint64_t values;
  uint64_t calls;
};

struct Kind {
  const char* name;
  uint32_t type;
  uint32_t key;
  uint32_t flags;
  bool walked;  // Linux 6.18 has the helper for it
};

constexpr Kind kKinds[] = {
    {"array", BPF_MAP_TYPE_ARRAY, 4, 0, true},
    {"per-CPU array", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 0, true},
    {"hash", BPF_MAP_TYPE_HASH, 4, 0, true},
    {"hash on demand", BPF_MAP_TYPE_HASH, 4, BPF_F_NO_PREALLOC, true},
    {"per-CPU hash", BPF_MAP_TYPE_PERCPU_HASH, 4, 0, true},
    {"LRU hash", BPF_MAP_TYPE_LRU_HASH, 4, 0, true},
    {"LRU per-CPU hash", BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 0, true},
    {"trie", BPF_MAP_TYPE_LPM_TRIE, 8, BPF_F_NO_PREALLOC, false},
    {"queue", BPF_MAP_TYPE_QUEUE, 0, 0, false},
    {"stack", BPF_MAP_TYPE_STACK, 0, 0, false},
    {"bloom filter", BPF_MAP_TYPE_BLOOM_FILTER, 0, 0, false},
    {"stack traces", BPF_MAP_TYPE_STACK_TRACE, 4, 0, false},
    {"program array", BPF_MAP_TYPE_PROG_ARRAY, 4, 0, false},
    {"cgroup array", BPF_MAP_TYPE_CGROUP_ARRAY, 4, 0, false},
};

class ForEachOracle : public TwoFaces {
 protected:
  /// A program that walks `map` with `flags` and adds up in `sums` what the callback sees; its result is the helper's.
  static ProgramToLoad walker(int map, int sums, int32_t action, int32_t flags) {
    const auto code = [](std::initializer_list<Code> list) { return assemble(list); };
    std::vector<bpf_insn> main = code({load_map(r1, static_cast<uint32_t>(map)), load_function(r2, 6), mov(r3, 0),
                                       mov(r4, flags), call(kForEach), exit_()});
    main[2].imm = static_cast<int32_t>(main.size() - 2 - 1);
    std::vector<bpf_insn> callback =
        code({load_map_value(r5, static_cast<uint32_t>(sums), 0), assembler::load(kW, r0, r2, 0),
              atomic(kDw, kAdd, r5, 0, r0), assembler::load(kDw, r0, r3, 0), atomic(kDw, kAdd, r5, 8, r0), mov(r0, 1),
              atomic(kDw, kAdd, r5, 16, r0)});
    if ((action & kErase) != 0) {
      const auto erase = code({call(kDelete)});
      callback.insert(callback.end(), erase.begin(), erase.end());
    }
    const auto end = code({mov(r0, (action & kStop) != 0 ? 1 : 0), exit_()});
    callback.insert(callback.end(), end.begin(), end.end());
    ProgramToLoad program;
    program.type = BPF_PROG_TYPE_SCHED_CLS;
    callback_at_ = static_cast<uint32_t>(main.size());
    main.insert(main.end(), callback.begin(), callback.end());
    program.code = std::move(main);
    return program;
  }

  /// Callbacks need types for their functions.
  static int load(Face& face, ProgramToLoad program) {
    BtfBuilder builder;
    const uint32_t number = builder.integer("int", 4, 1);
    const uint32_t any = builder.add(BtfKind::kPtr, "", 0);
    const uint32_t outer = builder.prototype(number, {{"context", any}});
    const uint32_t inner = builder.prototype(number, {{"map", any}, {"key", any}, {"value", any}, {"context", any}});
    const bpf_func_info functions[] = {{0, builder.add(BtfKind::kFunc, "walk", outer, 1)},
                                       {callback_at_, builder.add(BtfKind::kFunc, "visit", inner, 0)}};
    const auto raw = builder.raw();
    bpf_attr types = no_attr();
    types.btf = reinterpret_cast<uint64_t>(raw.data());
    types.btf_size = static_cast<uint32_t>(raw.size());
    const int btf = face.call(BPF_BTF_LOAD, types);
    bpf_attr attr = program.attr();
    attr.prog_btf_fd = static_cast<uint32_t>(btf);
    attr.func_info = reinterpret_cast<uint64_t>(functions);
    attr.func_info_cnt = 2;
    attr.func_info_rec_size = sizeof functions[0];
    const int result = face.call(BPF_PROG_LOAD, attr);
    if (btf >= 0) ::close(btf);
    return result;
  }

  static uint32_t callback_at_;
};

uint32_t ForEachOracle::callback_at_ = 0;

TEST_F(ForEachOracle, EveryKind) {
  for (const Kind& kind : kKinds) {
    for (const int32_t action : {0, kErase, kStop, kErase | kStop}) {
      for (const int32_t flags : {0, 1}) {
        compare([&](Face& face) {
          const std::string what =
              std::string(kind.name) + " action " + std::to_string(action) + " flags " + std::to_string(flags);
          const int map =
              face.call(BPF_MAP_CREATE,
                        map_attr(kind.type, kind.key,
                                 kind.type == BPF_MAP_TYPE_PROG_ARRAY || kind.type == BPF_MAP_TYPE_CGROUP_ARRAY ? 4 : 8,
                                 8, kind.flags));
          face.expect(what, map);
          const int sums = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, sizeof(Sums), 1));
          for (uint64_t key = 0; kind.walked && key < 5; ++key) {
            std::array<uint64_t, 512> values{};
            values.fill(key * key + 1);
            face.note(what, face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, values.data())));
          }
          const int program = load(face, walker(map, sums, action, flags));
          bpf_attr run = run_attr(program);
          const std::array<char, 64> packet{};
          run.test.data_in = reinterpret_cast<uint64_t>(packet.data());
          run.test.data_size_in = packet.size();
          const int ran = program < 0 ? program : face.call(BPF_PROG_TEST_RUN, &run, sizeof run);
          Sums seen{};
          const uint32_t zero = 0;
          face.call(BPF_MAP_LOOKUP_ELEM, element_attr(sums, &zero, &seen));
          if (kind.walked) {
            face.expect(what + " load", program);
            face.note(what + " run", ran);
            face.note(what + " result", run.test.retval);
            face.note(what + " calls", static_cast<int64_t>(seen.calls));
            if (action != kStop && action != (kErase | kStop)) {
              face.note(what + " keys", static_cast<int64_t>(seen.keys));
              face.note(what + " values", static_cast<int64_t>(seen.values));
            }
          } else {
            // The verifier refuses; skep, which has none yet, when the helper is called.
            face.note(what + " walked", program >= 0 && ran >= 0 && static_cast<int32_t>(run.test.retval) >= 0);
            face.note(what + " calls", static_cast<int64_t>(seen.calls));
          }
          for (const int fd : {map, sums, program})
            if (fd >= 0) ::close(fd);
        });
      }
    }
  }
}

}  // namespace
}  // namespace skep
