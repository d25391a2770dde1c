// SPDX-License-Identifier: Apache-2.0
// What programs do with the rarer kinds: the same loop of the same instructions, compiled by the kernel and interpreted
// by skep, each net of the loop without the call. What skep's side still pays for the interpreter is the call itself.
#include <linux/perf_event.h>
#include <skep/abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>

#include "btf/btf_builder.h"
#include "btf/kernel_btf.h"
#include "prog/assembler.h"
#include "sources.h"
#include "syscall/perf_events.h"
#include "syscall/process.h"
#include "threads.h"

namespace skep::bench {
namespace {

using namespace assembler;

constexpr int32_t kTurns = 500;           // of the loop in one run of a program
constexpr uint32_t kElements = 1000;      // that a walk sees
constexpr uint64_t kRingBytes = 1 << 18;  // of each perf event
constexpr size_t kPage = 4096;

bpf_attr zero() {
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  return attr;
}

/// One side: the kernel's bpf(2), or that of a skep of its own. Descriptors live as long as the benchmark.
class Side {
 public:
  explicit Side(std::shared_ptr<Process> process) : process_(std::move(process)) {}
  [[nodiscard]] bool is_kernel() const { return process_ == nullptr; }

  int command(int command, bpf_attr attr) const {
    if (!is_kernel()) return bpf(*process_, command, &attr, sizeof attr);
    return static_cast<int>(::syscall(__NR_bpf, command, &attr, sizeof attr));
  }
  [[nodiscard]] int map(uint32_t type, uint32_t key, uint32_t value, uint32_t entries, uint32_t flags = 0,
                        uint64_t extra = 0) const {
    bpf_attr attr = zero();
    attr.map_type = type;
    attr.key_size = key;
    attr.value_size = value;
    attr.max_entries = entries;
    attr.map_flags = flags;
    attr.map_extra = extra;
    return command(BPF_MAP_CREATE, attr);
  }
  [[nodiscard]] bool set(int map, uint32_t key, uint64_t value) const {
    bpf_attr attr = zero();
    attr.map_fd = static_cast<uint32_t>(map);
    attr.key = reinterpret_cast<uint64_t>(&key);
    attr.value = reinterpret_cast<uint64_t>(&value);
    return command(BPF_MAP_UPDATE_ELEM, attr) == 0;
  }
  [[nodiscard]] int load(uint32_t type, const std::vector<bpf_insn>& code) const {
    return command(BPF_PROG_LOAD, load_attr(type, code));
  }
  static bpf_attr load_attr(uint32_t type, const std::vector<bpf_insn>& code) {
    bpf_attr attr = zero();
    attr.prog_type = type;
    attr.insn_cnt = static_cast<uint32_t>(code.size());
    attr.insns = reinterpret_cast<uint64_t>(code.data());
    attr.license = reinterpret_cast<uint64_t>("GPL");
    if (type == BPF_PROG_TYPE_SYSCALL) attr.prog_flags = BPF_F_SLEEPABLE;
    return attr;
  }
  bool run(int program, uint32_t type, uint32_t repeat) const {
    static const char packet[64] = {};
    bpf_attr attr = zero();
    attr.test.prog_fd = static_cast<uint32_t>(program);
    if (type == BPF_PROG_TYPE_XDP || type == BPF_PROG_TYPE_SCHED_CLS) {
      attr.test.data_in = reinterpret_cast<uint64_t>(packet);
      attr.test.data_size_in = sizeof packet;
      attr.test.repeat = repeat;
    }
    return command(BPF_PROG_TEST_RUN, attr) == 0;
  }

  /// A ring that takes the output of programs on that CPU; its page, null where there is none.
  perf_event_mmap_page* open_ring(int cpu, int& event) const {
    perf_event_attr attr;
    std::memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = PERF_TYPE_SOFTWARE;
    attr.config = PERF_COUNT_SW_BPF_OUTPUT;
    attr.sample_type = PERF_SAMPLE_RAW;
    attr.sample_period = 1;
    attr.watermark = 1;
    attr.wakeup_watermark = kRingBytes;  // nobody is woken
    FileDescriptor mapped;
    if (is_kernel()) {
      event = static_cast<int>(::syscall(__NR_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC));
    } else {
      event = perf_event_open(*process_, reinterpret_cast<uint64_t>(&attr), cpu, PERF_FLAG_FD_CLOEXEC).value_or(-1);
      const auto object = process_->descriptors.share(event);
      if (!object) return nullptr;
      auto file = perf_event_prepare_mapping(*process_, **object, kPage + kRingBytes, true, true, 0);
      if (!file) return nullptr;
      mapped = *std::move(file);
    }
    void* ring =
        mmap(nullptr, kPage + kRingBytes, PROT_READ | PROT_WRITE, MAP_SHARED, is_kernel() ? event : mapped.get(), 0);
    return ring == MAP_FAILED ? nullptr : static_cast<perf_event_mmap_page*>(ring);
  }

 private:
  std::shared_ptr<Process> process_;
};

/// A row: two programs, of which one does `operations` more than the other in a run.
struct Pair {
  int full = -1, empty = -1;
  uint32_t type = BPF_PROG_TYPE_XDP;
  double operations = kTurns;
  uint32_t repeat = 1;  // runs by one call of bpf(2), where runs are short; packets only
  std::function<void()> between_runs = [] {};
  [[nodiscard]] bool loaded() const { return full >= 0 && empty >= 0; }
};

/// kTurns times `body`, in which `calls` stands for what the empty loop leaves out. R6: the context, [R10 - 8]: 7.
Pair loops(const Side& side, uint32_t type, std::initializer_list<Code> body, std::initializer_list<Code> calls) {
  const auto one = [&](bool full) {
    auto code = assemble({mov(r6, r1), mov(r7, kTurns), store(kDw, r10, -8, 7)});
    const size_t start = code.size();
    for (const auto& part : {assemble({add(r7, -1)}), assemble(body), full ? assemble(calls) : assemble({mov(r0, 0)})})
      code.insert(code.end(), part.begin(), part.end());
    const auto back = static_cast<int>(start) - static_cast<int>(code.size()) - 1;
    for (const Code& end : {jump_if(kJne, r7, 0, back), mov(r0, 0), exit_()}) code.push_back(end.first);
    return side.load(type, code);
  };
  return {.full = one(true), .empty = one(false), .type = type};
}

Pair redirects(const Side& side) {
  const int map = side.map(BPF_MAP_TYPE_CPUMAP, 4, 4, 1);
  if (!side.set(map, 0, 192)) return {};
  return loops(side, BPF_PROG_TYPE_XDP, {load_map(r1, static_cast<uint32_t>(map)), mov(r2, 0), mov(r3, 0)}, {call(51)});
}

Pair stacks(const Side& side) {
  const int map = side.map(BPF_MAP_TYPE_STACK_TRACE, 4, 80, 64);
  constexpr int32_t kUserStackReuse = 256 | 1024;
  return loops(side, BPF_PROG_TYPE_RAW_TRACEPOINT,
               {mov(r1, r6), load_map(r2, static_cast<uint32_t>(map)), mov(r3, kUserStackReuse)}, {call(27)});
}

Pair events(const Side& side) {
  const auto cpus = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  const int map = side.map(BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, static_cast<uint32_t>(cpus));
  std::vector<perf_event_mmap_page*> rings;
  for (int cpu = 0; cpu < cpus; ++cpu) {
    int event = -1;
    rings.push_back(side.open_ring(cpu, event));
    if (rings.back() == nullptr || !side.set(map, static_cast<uint32_t>(cpu), static_cast<uint64_t>(event))) return {};
  }
  Pair pair = loops(
      side, BPF_PROG_TYPE_XDP,
      {mov(r1, r6), load_map(r2, static_cast<uint32_t>(map)), mov32(r3, -1), mov(r4, r10), add(r4, -8), mov(r5, 8)},
      {call(25)});
  pair.between_runs = [rings] {
    for (auto* ring : rings)
      __atomic_store_n(&ring->data_tail, __atomic_load_n(&ring->data_head, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
  };
  return pair;
}

Pair tail_calls(const Side& side) {
  const int map = side.map(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2);
  const auto calling = [&](int32_t index) {
    return side.load(BPF_PROG_TYPE_XDP, assemble({load_map(r2, static_cast<uint32_t>(map)), mov(r3, index), call(12),
                                                  mov(r0, 2), exit_()}));
  };
  Pair pair{.full = calling(0), .empty = calling(1)};
  constexpr int kMost = 33;  // calls in a row
  pair.operations = kMost;
  pair.repeat = 5000;
  if (!pair.loaded() || !side.set(map, 0, static_cast<uint64_t>(pair.full))) return {};
  return pair;
}

Pair pages(const Side& side) {
  const auto types = KernelBtf::read();
  if (!types) return {};
  const uint32_t allocate = types->find(BtfKind::kFunc, "bpf_arena_alloc_pages");
  const uint32_t free = types->find(BtfKind::kFunc, "bpf_arena_free_pages");
  constexpr uint32_t kPages = 64;
  const uint64_t base = (side.is_kernel() ? uint64_t{1} : uint64_t{2}) << 44;
  const int map = side.map(BPF_MAP_TYPE_ARENA, 0, 0, kPages, BPF_F_MMAPABLE, base);
  if (mmap(reinterpret_cast<void*>(base), kPages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, map,
           0) == MAP_FAILED)
    return {};
  const Code arena = load_map(r1, static_cast<uint32_t>(map));
  return loops(side, BPF_PROG_TYPE_SYSCALL, {arena, mov(r2, 0), mov(r3, 1), mov(r4, -1), mov(r5, 0)},
               {call_kernel(allocate), arena, mov(r2, r0), mov(r3, 1), call_kernel(free)});
}

/// Callbacks need types for their functions.
int load_walk(const Side& side, int map, bool walks) {
  const Code end = mov(r0, 0);
  auto code = assemble({load_map(r1, static_cast<uint32_t>(map)), load_function(r2, 5), mov(r3, 0), mov(r4, 0),
                        walks ? call(164) : end, end, exit_()});
  const auto callback = static_cast<uint32_t>(code.size());
  code[2].imm = static_cast<int32_t>(callback - 2 - 1);
  for (const Code& more : {end, exit_()}) code.push_back(more.first);
  BtfBuilder builder;
  const uint32_t number = builder.integer("int", 4, 1), any = builder.add(BtfKind::kPtr, "", 0);
  const uint32_t outer = builder.prototype(number, {{"context", any}});
  const uint32_t inner = builder.prototype(number, {{"map", any}, {"key", any}, {"value", any}, {"context", any}});
  const bpf_func_info functions[] = {{0, builder.add(BtfKind::kFunc, "walk", outer, 1)},
                                     {callback, builder.add(BtfKind::kFunc, "visit", inner, 0)}};
  const auto raw = builder.raw();
  bpf_attr types = zero();
  types.btf = reinterpret_cast<uint64_t>(raw.data());
  types.btf_size = static_cast<uint32_t>(raw.size());
  bpf_attr attr = Side::load_attr(BPF_PROG_TYPE_SCHED_CLS, code);
  attr.prog_btf_fd = static_cast<uint32_t>(side.command(BPF_BTF_LOAD, types));
  attr.func_info = reinterpret_cast<uint64_t>(functions);
  attr.func_info_cnt = 2;
  attr.func_info_rec_size = sizeof functions[0];
  return side.command(BPF_PROG_LOAD, attr);
}

Pair walks(const Side& side) {
  const int map = side.map(BPF_MAP_TYPE_HASH, 4, 8, kElements);
  for (uint32_t key = 0; key < kElements; ++key) {
    if (!side.set(map, key, key)) return {};
  }
  return {.full = load_walk(side, map, true),
          .empty = load_walk(side, map, false),
          .type = BPF_PROG_TYPE_SCHED_CLS,
          .operations = kElements};
}

struct Operation {
  const char* what;
  Pair (*make)(const Side&);
  uint64_t part;  // of the usual number of operations, one in so many
};
constexpr Operation kOperations[] = {
    {"tail call", tail_calls, 1},
    {"bpf_for_each_map_elem over a HASH, per element", walks, 1},
    {"bpf_redirect_map to a CPU", redirects, 1},
    {"bpf_perf_event_output of 8 bytes", events, 2},
    {"bpf_get_stackid of the user stack", stacks, 10},
    {"ARENA: a page allocated and freed", pages, 20},
};

/// Nanoseconds of one operation.
double time(const Side& side, const Pair& pair, uint64_t operations) {
  const double in_a_call = pair.operations * pair.repeat;
  const auto calls = static_cast<uint64_t>(static_cast<double>(operations) / in_a_call) + 1;
  const auto of = [&](int program) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < calls; ++i) {
      const uint64_t started = now();
      side.run(program, pair.type, pair.repeat);
      sum += now() - started;
      pair.between_runs();
    }
    return static_cast<double>(sum) / (static_cast<double>(calls) * in_a_call);
  };
  const double nothing = of(pair.empty);
  return of(pair.full) - nothing;
}

}  // namespace

void add_programs(Suite& suite, const Plan& plan) {
  const auto instance = Instance::open(plan.instances + "/programs");
  const Side sides[] = {Side(nullptr), Side(instance ? std::make_shared<Process>(*instance) : nullptr)};
  for (const Operation& operation : kOperations) {
    for (const Side& side : sides) {
      const Pair pair = operation.make(side);
      const char* name = side.is_kernel() ? "kernel" : "skep";
      if (!pair.loaded() || !side.run(pair.full, pair.type, 1)) {
        std::fprintf(stderr, "no figures of %s for: %s\n", name, operation.what);
        continue;
      }
      suite.add(name, [=, what = operation.what, count = plan.operations / operation.part] {
        pin_to_cpu(0);
        return std::vector{Figure{what, 1, 1, time(side, pair, count)}};
      });
    }
  }
}

}  // namespace skep::bench
