// SPDX-License-Identifier: Apache-2.0
// What programs do to the elements of maps, at random, with clients in between: on skep and on the kernel, on a CPU
// that both are told.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <random>

#include "sample_btf.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr int32_t kLookup = 1, kUpdate = 2, kDelete = 3, kLookupOfCpu = 195;
constexpr uint32_t kEntries = 8, kKeys = 11;  // a few more than fit

struct Kind {
  const char* name;
  uint32_t type;
  uint32_t key;  // bytes
  uint32_t flags;
  uint32_t entries;
  [[nodiscard]] bool per_cpu() const {
    return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
           type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
  }
  [[nodiscard]] bool is_array() const { return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY; }
  /// A new value is a new element there: pointers to the old one go on showing what it was.
  [[nodiscard]] bool replaces() const { return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH; }
};
constexpr Kind kKinds[] = {
    {"hash", BPF_MAP_TYPE_HASH, 4, 0, kEntries},
    {"hash of 8 bytes", BPF_MAP_TYPE_HASH, 8, 0, kEntries},
    {"hash on demand", BPF_MAP_TYPE_HASH, 4, BPF_F_NO_PREALLOC, kEntries},
    {"per-CPU hash", BPF_MAP_TYPE_PERCPU_HASH, 4, 0, kEntries},
    {"per-CPU hash on demand", BPF_MAP_TYPE_PERCPU_HASH, 8, BPF_F_NO_PREALLOC, kEntries},
    {"array", BPF_MAP_TYPE_ARRAY, 4, 0, kEntries},
    {"per-CPU array", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 0, kEntries},
    {"LRU hash", BPF_MAP_TYPE_LRU_HASH, 4, 0, 4096},  // far from full: what goes first is each side's own affair
    {"LRU hash, no common lists", BPF_MAP_TYPE_LRU_HASH, 4, BPF_F_NO_COMMON_LRU, 4096},
    {"LRU per-CPU hash", BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 0, 4096},
    {"trie", BPF_MAP_TYPE_LPM_TRIE, 8, BPF_F_NO_PREALLOC, kEntries},
};

/// The program's context, and what it answers in the one element of an array.
struct Request {
  enum Work : uint64_t { kGet, kSet, kErase, kAdd, kGetOfCpu, kKeep };
  uint64_t work, key, value, flags, other_key, other_value;
};
using Answers = std::array<uint64_t, 8>;

class ProgramMapsOracle : public TwoFaces {
 protected:
  static ProgramToLoad worker(const Kind& kind, int map, int answers) {
    const auto at = static_cast<uint32_t>(map);
    const Code key[] = {mov(r2, r10), add(r2, -8)}, value[] = {mov(r3, r10), add(r3, -16)};
    const Code other_key[] = {mov(r2, r10), add(r2, -24)}, other_value[] = {mov(r3, r10), add(r3, -32)};
    const auto say = [&](int number, Register source) { return store(kDw, r8, number * 8, source); };

    ProgramToLoad out = program({mov(r9, r1), load_map_value(r8, static_cast<uint32_t>(answers), 0)});
    out.type = BPF_PROG_TYPE_RAW_TRACEPOINT;
    const auto append = [&](std::initializer_list<Code> codes) {
      const auto more = assemble(codes);
      out.code.insert(out.code.end(), more.begin(), more.end());
    };
    append({load(kDw, r1, r9, 8), store(kDw, r10, -8, r1), load(kDw, r1, r9, 16), store(kDw, r10, -16, r1),
            load(kDw, r1, r9, 32), store(kDw, r10, -24, r1), load(kDw, r1, r9, 40), store(kDw, r10, -32, r1),
            load(kDw, r7, r9, 0)});
    const auto block = [&](uint64_t work, std::initializer_list<Code> codes) {
      const auto body = assemble(codes);
      out.code.push_back(jump_if(kJne, r7, static_cast<int32_t>(work), static_cast<int>(body.size())).first);
      out.code.insert(out.code.end(), body.begin(), body.end());
    };
    block(Request::kGet, {load_map(r1, at), key[0], key[1], call(kLookup), jump_if(kJeq, r0, 0, 4), mov(r1, 1),
                          say(0, r1), load(kDw, r1, r0, 0), say(1, r1), mov(r0, 0), exit_()});
    block(Request::kSet, {load_map(r1, at), key[0], key[1], value[0], value[1], load(kDw, r4, r9, 24), call(kUpdate),
                          say(0, r0), mov(r0, 0), exit_()});
    block(Request::kErase, {load_map(r1, at), key[0], key[1], call(kDelete), say(0, r0), mov(r0, 0), exit_()});
    block(Request::kAdd,
          {load_map(r1, at), key[0], key[1], call(kLookup), jump_if(kJeq, r0, 0, 5), mov(r1, 1), say(0, r1),
           load(kDw, r1, r9, 16), atomic(kDw, opcode::kAdd | kFetch, r0, 0, r1), say(1, r1), mov(r0, 0), exit_()});
    if (kind.per_cpu()) {
      block(Request::kGetOfCpu,
            {load_map(r1, at), key[0], key[1], load(kDw, r3, r9, 24), call(kLookupOfCpu), jump_if(kJeq, r0, 0, 4),
             mov(r1, 1), say(0, r1), load(kDw, r1, r0, 0), say(1, r1), mov(r0, 0), exit_()});
    }
    if (kind.replaces()) {
      block(Request::kKeep, {load_map(r1, at),
                             key[0],
                             key[1],
                             call(kLookup),
                             jump_if(kJne, r0, 0, 2),
                             mov(r0, 0),
                             exit_(),
                             mov(r6, r0),  // the old element
                             load_map(r1, at),
                             key[0],
                             key[1],
                             value[0],
                             value[1],
                             mov(r4, 0),
                             call(kUpdate),
                             say(0, r0),
                             load_map(r1, at),
                             key[0],
                             key[1],
                             call(kLookup),
                             jump_if(kJne, r0, 0, 2),
                             mov(r0, 0),
                             exit_(),
                             mov(r7, r0),  // the new one
                             load(kDw, r1, r6, 0),
                             say(1, r1),
                             load(kDw, r1, r7, 0),
                             say(2, r1),
                             mov(r1, 1),
                             jump_if(kJeq, r6, r7, 1),
                             mov(r1, 2),
                             say(3, r1),
                             load_map(r1, at),
                             key[0],
                             key[1],
                             call(kDelete),
                             say(4, r0),
                             load(kDw, r1, r7, 0),
                             say(5, r1),
                             load_map(r1, at),
                             other_key[0],
                             other_key[1],
                             other_value[0],
                             other_value[1],
                             mov(r4, 0),
                             call(kUpdate),
                             say(6, r0),
                             load(kDw, r1, r7, 0),
                             say(7, r1),
                             mov(r0, 0),
                             exit_()});
    }
    append({mov(r0, 0), exit_()});
    return out;
  }

  /// What the program answered; the first word is ~0 where it said nothing.
  static Answers run(Face& face, int program, int answers, const Request& request, uint32_t cpu) {
    Answers said;
    said.fill(0);
    said[0] = ~uint64_t{0};
    const uint32_t zero = 0;
    EXPECT_EQ(face.call(BPF_MAP_UPDATE_ELEM, element_attr(answers, &zero, said.data())), 0);
    bpf_attr attr = run_attr(program);
    attr.test.ctx_in = reinterpret_cast<uint64_t>(&request);
    attr.test.ctx_size_in = sizeof request;
    attr.test.flags = BPF_F_TEST_RUN_ON_CPU;
    attr.test.cpu = cpu;
    EXPECT_EQ(face.call(BPF_PROG_TEST_RUN, attr), 0) << last_error_sentence();
    EXPECT_EQ(face.call(BPF_MAP_LOOKUP_ELEM, element_attr(answers, &zero, said.data())), 0);
    return said;
  }

  static uint64_t random_key(const Kind& kind, std::mt19937_64& random) {
    const uint64_t number = random() % kKeys;
    if (kind.type != BPF_MAP_TYPE_LPM_TRIE) {
      return kind.is_array() && random() % 16 == 0 ? 0xffffffff : kind.key == 8 ? number << 40 | number : number;
    }
    // Prefixes of a few addresses that share their first bits; now and then one that is too long.
    return (number * 0x0b0d1101 % 0xffff) << 32 | (random() % 20 == 0 ? 33 : random() % 5 * 8);
  }
};

TEST_F(ProgramMapsOracle, RandomOperations) {
  const char* seed_text = ::getenv("SKEP_ORACLE_SEED");
  const uint64_t seed = seed_text != nullptr ? strtoull(seed_text, nullptr, 0) : std::random_device{}();
  SCOPED_TRACE("SKEP_ORACLE_SEED=" + std::to_string(seed));
  const auto possible = static_cast<uint32_t>(::sysconf(_SC_NPROCESSORS_CONF));
  const auto online = static_cast<uint32_t>(::sysconf(_SC_NPROCESSORS_ONLN));
  for (const Kind& kind : kKinds) {
    compare([&](Face& face) {
      std::mt19937_64 random(seed);
      const int map = face.call(BPF_MAP_CREATE, map_attr(kind.type, kind.key, 8, kind.entries, kind.flags));
      const int answers = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, sizeof(Answers), 1));
      ProgramToLoad code = worker(kind, map, answers);
      const int program = code.load(face);
      ASSERT_GE(program, 0) << kind.name << last_error_sentence();
      for (int step = 0; step < 400; ++step) {
        const std::string what = std::string(kind.name) + " step " + std::to_string(step) + " ";
        const uint64_t flags = random() % 6 == 0 ? random() % 6 : random() % 3;
        Request request{.work = random() % 5,
                        .key = random_key(kind, random),
                        .value = random(),
                        .flags = flags,
                        .other_key = random_key(kind, random),
                        .other_value = random()};
        if (request.work == Request::kGetOfCpu) {
          if (!kind.per_cpu()) request.work = kind.replaces() ? Request::kKeep : Request::kGet;
          if (kind.per_cpu()) request.flags = random() % 8 == 0 ? 4096 + random() % 3 : random() % possible;
        }
        const auto cpu = static_cast<uint32_t>(random() % online);
        if (random() % 3 != 0) {
          Answers said = run(face, program, answers, request, cpu);
          if (request.work == Request::kKeep && said[0] != ~uint64_t{0}) {
            // Whose element it is after the other key came is the allocator's affair; it is one of the two, whole.
            said[7] = said[7] == request.value || said[7] == request.other_value;
          }
          for (const uint64_t word : said) face.note(what + std::to_string(request.work), static_cast<int64_t>(word));
          continue;
        }
        std::vector<uint64_t> values(possible, request.value);
        switch (random() % 4) {
          case 0:
            face.note(what + "update", face.call(BPF_MAP_UPDATE_ELEM,
                                                 element_attr(map, &request.key, values.data(), request.flags % 8)));
            break;
          case 1:
            face.note(what + "erase", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &request.key, nullptr)));
            break;
          default:
            std::ranges::fill(values, 0);
            face.note(what + "lookup", face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &request.key, values.data())));
            for (const uint64_t word : values) face.note(what + "value", static_cast<int64_t>(word));
        }
      }
      for (const int fd : {program, map, answers}) ::close(fd);
    });
    if (HasFatalFailure()) return;
  }
}

/// locked_value of sample_btf().
struct LockedValue {
  uint64_t a;
  uint32_t lock;
  uint32_t b;
  uint64_t c;
};
/// As Request, in the one element of an array: programs with locks get no arguments that a test could choose.
struct LockedRequest {
  enum Work : uint64_t { kGet, kSet, kErase, kAdd, kWorks };
  uint64_t work, key, flags, added;
  LockedValue value;
};

/// Values with a lock in them: programs that take it, and updates and lookups that ask for it, from either side.
class LockedMapsOracle : public ProgramMapsOracle {
 protected:
  static constexpr int32_t kSpinLock = 93, kSpinUnlock = 94;

  static int create(Face& face, uint32_t type, uint32_t flags) {
    const auto raw = oracle::sample_btf();
    bpf_attr types = no_attr();
    types.btf = reinterpret_cast<uint64_t>(raw.data());
    types.btf_size = static_cast<uint32_t>(raw.size());
    const int btf = face.call(BPF_BTF_LOAD, types);
    bpf_attr attr = map_attr(type, 4, sizeof(LockedValue), kEntries, flags);
    attr.btf_fd = static_cast<uint32_t>(btf);
    attr.btf_key_type_id = oracle::kU32;
    attr.btf_value_type_id = oracle::kLockedValue;
    const int map = face.call(BPF_MAP_CREATE, attr);
    ::close(btf);
    return map;
  }

  static ProgramToLoad locker(int map, int requests, int answers) {
    const auto at = static_cast<uint32_t>(map);
    ProgramToLoad out = program(
        {load_map_value(r9, static_cast<uint32_t>(requests), 0), load_map_value(r8, static_cast<uint32_t>(answers), 0),
         load(kDw, r7, r9, 0), load(kDw, r1, r9, 8), store(kDw, r10, -8, r1)},
        BPF_PROG_TYPE_SCHED_CLS);
    const auto append = [&](const std::vector<bpf_insn>& more) {
      out.code.insert(out.code.end(), more.begin(), more.end());
    };
    // The value on the stack, at R10 - 32.
    for (int word = 0; word < 3; ++word)
      append(assemble({load(kDw, r1, r9, 32 + 8 * word), store(kDw, r10, -32 + 8 * word, r1)}));
    const auto block = [&](uint64_t work, std::initializer_list<Code> codes) {
      const auto body = assemble(codes);
      append(assemble({jump_if(kJne, r7, static_cast<int32_t>(work), static_cast<int>(body.size()))}));
      append(body);
    };
    const Code map_and_key[] = {load_map(r1, at), mov(r2, r10), add(r2, -8)};
    const Code end[] = {mov(r0, 0), exit_()};
    block(LockedRequest::kGet, {map_and_key[0], map_and_key[1], map_and_key[2], call(kLookup), jump_if(kJeq, r0, 0, 6),
                                load(kDw, r1, r0, 0), store(kDw, r8, 0, r1), load(kW, r1, r0, 12),
                                store(kDw, r8, 8, r1), load(kDw, r1, r0, 16), store(kDw, r8, 16, r1), end[0], end[1]});
    block(LockedRequest::kSet, {map_and_key[0], map_and_key[1], map_and_key[2], mov(r3, r10), add(r3, -32),
                                load(kDw, r4, r9, 16), call(kUpdate), store(kDw, r8, 0, r0), end[0], end[1]});
    block(LockedRequest::kErase,
          {map_and_key[0], map_and_key[1], map_and_key[2], call(kDelete), store(kDw, r8, 0, r0), end[0], end[1]});
    block(LockedRequest::kAdd, {map_and_key[0],
                                map_and_key[1],
                                map_and_key[2],
                                call(kLookup),
                                jump_if(kJeq, r0, 0, 14),
                                mov(r6, r0),
                                mov(r1, r6),
                                add(r1, 8),
                                call(kSpinLock),
                                load(kDw, r7, r6, 0),
                                load(kDw, r2, r9, 24),
                                add(r2, r7),
                                store(kDw, r6, 0, r2),
                                store(kDw, r6, 16, r2),
                                mov(r1, r6),
                                add(r1, 8),
                                call(kSpinUnlock),
                                store(kDw, r8, 0, r7),
                                mov(r0, 0),
                                end[0],
                                end[1]});
    append(assemble({end[0], end[1]}));
    return out;
  }
};

TEST_F(LockedMapsOracle, RandomOperations) {
  const char* seed_text = ::getenv("SKEP_ORACLE_SEED");
  const uint64_t seed = seed_text != nullptr ? strtoull(seed_text, nullptr, 0) : std::random_device{}();
  SCOPED_TRACE("SKEP_ORACLE_SEED=" + std::to_string(seed));
  constexpr struct {
    uint32_t type, flags;
  } kLocked[] = {{BPF_MAP_TYPE_HASH, 0}, {BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC}, {BPF_MAP_TYPE_ARRAY, 0}};
  for (const auto& kind : kLocked) {
    compare([&](Face& face) {
      std::mt19937_64 random(seed);
      const int map = create(face, kind.type, kind.flags);
      const int requests = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, sizeof(LockedRequest), 1));
      const int answers = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, sizeof(Answers), 1));
      const int program = locker(map, requests, answers).load(face);
      ASSERT_GE(program, 0) << last_error_sentence();
      const uint32_t zero = 0;
      for (int step = 0; step < 600; ++step) {
        const std::string what = "type " + std::to_string(kind.type) + " step " + std::to_string(step) + " ";
        // Whatever is written where the lock is, nobody sees.
        LockedRequest request{
            .work = random() % LockedRequest::kWorks,
            .key = random() % kKeys,
            .flags = random() % 8,
            .added = random(),
            .value = {random(), static_cast<uint32_t>(random()), static_cast<uint32_t>(random()), random()}};
        if (random() % 2 == 0) {
          Answers said;
          said.fill(~uint64_t{0});
          std::array<char, 64> packet{};
          bpf_attr attr = run_attr(program);
          attr.test.data_in = reinterpret_cast<uint64_t>(packet.data());
          attr.test.data_size_in = packet.size();
          EXPECT_EQ(face.call(BPF_MAP_UPDATE_ELEM, element_attr(requests, &zero, &request)), 0);
          EXPECT_EQ(face.call(BPF_MAP_UPDATE_ELEM, element_attr(answers, &zero, said.data())), 0);
          EXPECT_EQ(face.call(BPF_PROG_TEST_RUN, attr), 0) << last_error_sentence();
          EXPECT_EQ(face.call(BPF_MAP_LOOKUP_ELEM, element_attr(answers, &zero, said.data())), 0);
          for (int i = 0; i < 3; ++i) face.note(what + std::to_string(request.work), static_cast<int64_t>(said[i]));
          continue;
        }
        LockedValue value = request.value;
        switch (random() % 4) {
          case 0:
            face.note(what + "update",
                      face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &request.key, &value, request.flags)));
            break;
          case 1:
            face.note(what + "erase", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &request.key, nullptr)));
            break;
          case 2:
            face.note(what + "take", face.call(BPF_MAP_LOOKUP_AND_DELETE_ELEM,
                                               element_attr(map, &request.key, &value, request.flags & BPF_F_LOCK)));
            break;
          default:
            face.note(what + "lookup", face.call(BPF_MAP_LOOKUP_ELEM,
                                                 element_attr(map, &request.key, &value, request.flags & BPF_F_LOCK)));
        }
        for (const uint64_t word : {value.a, uint64_t{value.lock}, uint64_t{value.b}, value.c})
          face.note(what + "value", static_cast<int64_t>(word));
      }
      for (const int fd : {program, map, requests, answers}) ::close(fd);
    });
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace skep
