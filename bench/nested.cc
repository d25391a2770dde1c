// SPDX-License-Identifier: Apache-2.0
// A lookup in an inner map as a program does it: the outer map first, then the inner one. skep's as its helpers do it,
// called from C++ in a loop under one lease; the kernel's from its compiled program; both net of the empty loop.
#include <skep/abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "machine/lease.h"
#include "maps/reference_array_map.h"
#include "prog/assembler.h"
#include "sources.h"
#include "syscall/process.h"
#include "threads.h"

namespace skep::bench {
namespace {

constexpr uint32_t kInner = 8;     // maps in the outer one
constexpr uint32_t kEntries = 64;  // of each of them
constexpr int32_t kLoops = 1000;   // lookups per run of the kernel's program
constexpr const char* kWhat = "ARRAY_OF_MAPS and inner HASH lookup, in a program";

/// bpf(2) of the kernel, or of skep where `process` is given; -1 on an error.
int command_on(Process* process, int command, bpf_attr attr) {
  if (process != nullptr) return bpf(*process, command, &attr, sizeof attr);
  return static_cast<int>(::syscall(__NR_bpf, command, &attr, sizeof attr));
}

bpf_attr zero() {
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  return attr;
}

/// An outer map, full of full inner ones; negative where it is refused. The descriptors live as long as the program.
int make_maps(Process* process) {
  int outer = -1;
  for (uint32_t i = 0; i < kInner; ++i) {
    bpf_attr attr = zero();
    attr.map_type = BPF_MAP_TYPE_HASH;
    attr.key_size = 4;
    attr.value_size = 8;
    attr.max_entries = kEntries;
    const int inner = command_on(process, BPF_MAP_CREATE, attr);
    if (inner < 0) return -1;
    for (uint32_t key = 0; key < kEntries; ++key) {
      const uint64_t value = key;
      attr = zero();
      attr.map_fd = static_cast<uint32_t>(inner);
      attr.key = reinterpret_cast<uint64_t>(&key);
      attr.value = reinterpret_cast<uint64_t>(&value);
      command_on(process, BPF_MAP_UPDATE_ELEM, attr);
    }
    if (outer < 0) {
      attr = zero();
      attr.map_type = BPF_MAP_TYPE_ARRAY_OF_MAPS;
      attr.key_size = attr.value_size = 4;
      attr.max_entries = kInner;
      attr.inner_map_fd = static_cast<uint32_t>(inner);
      outer = command_on(process, BPF_MAP_CREATE, attr);
      if (outer < 0) return -1;
    }
    attr = zero();
    attr.map_fd = static_cast<uint32_t>(outer);
    attr.key = reinterpret_cast<uint64_t>(&i);
    attr.value = reinterpret_cast<uint64_t>(&inner);
    command_on(process, BPF_MAP_UPDATE_ELEM, attr);
  }
  return outer;
}

/// The kernel's program: kLoops lookups, or as many turns of the loop without them.
int load_loop(int outer, bool empty) {
  using namespace assembler;
  constexpr int32_t kLookup = 1;
  const std::vector<bpf_insn> code =
      empty ? assemble({mov(r6, kLoops), add(r6, -1), mov(r1, r6), alu(kAnd, r1, 7), store(kW, r10, -4, r1),
                        jump_if(kJne, r6, 0, -5), mov(r0, 0), exit_()})
            : assemble({mov(r6, kLoops), add(r6, -1), mov(r1, r6), alu(kAnd, r1, 7), store(kW, r10, -4, r1),
                        load_map(r1, static_cast<uint32_t>(outer)), mov(r2, r10), add(r2, -4), call(kLookup),
                        jump_if(kJeq, r0, 0, 7), mov(r1, r0), mov(r2, r10), add(r2, -4), call(kLookup),
                        jump_if(kJeq, r0, 0, 2), load(kDw, r0, r0, 0), jump_if(kJne, r6, 0, -17), mov(r0, 0), exit_()});
  bpf_attr attr = zero();
  attr.prog_type = BPF_PROG_TYPE_XDP;
  attr.insn_cnt = static_cast<uint32_t>(code.size());
  attr.insns = reinterpret_cast<uint64_t>(code.data());
  attr.license = reinterpret_cast<uint64_t>("GPL");
  return command_on(nullptr, BPF_PROG_LOAD, attr);
}

/// Nanoseconds of one turn.
double run_loop(int program, uint64_t operations) {
  char packet[64] = {};
  bpf_attr attr = zero();
  attr.test.prog_fd = static_cast<uint32_t>(program);
  attr.test.data_in = reinterpret_cast<uint64_t>(packet);
  attr.test.data_size_in = sizeof packet;
  attr.test.repeat = static_cast<uint32_t>(operations / kLoops + 1);
  const uint64_t started = now();
  ::syscall(__NR_bpf, BPF_PROG_TEST_RUN, &attr, sizeof attr);
  return static_cast<double>(now() - started) / (static_cast<double>(attr.test.repeat) * kLoops);
}

/// skep's side: what Run::call_lookup() does for an outer and for an inner map.
class SkepNested {
 public:
  explicit SkepNested(const std::string& directory) : process_(Instance::open(directory).value()) {
    const int outer = make_maps(&process_);
    outer_ = bind_map(process_.descriptors.share(outer).value()->map);
  }

  double time(uint64_t operations, bool empty) {
    const Lease lease(process_.machine, Lease::Cpu{0});
    const uint64_t started = now();
    for (uint64_t i = 0; i < operations; ++i) {
      const uint32_t key = i & 7;
      keep(key);
      if (empty) continue;
      const auto id = static_cast<uint32_t>(outer_.references->word(key));
      const MapBinding* inner = process_.references->map(id);
      keep(*static_cast<const uint64_t*>(inner->map->find(lease, &key)));
    }
    return static_cast<double>(now() - started) / static_cast<double>(operations);
  }

 private:
  Process process_;
  MapBinding outer_{};
};

}  // namespace

void add_nested(Suite& suite, const Plan& plan) {
  const int outer = make_maps(nullptr);
  const int full = load_loop(outer, false), empty = load_loop(outer, true);
  if (full >= 0 && empty >= 0) {
    suite.add("kernel", [=, count = plan.operations] {
      const double nothing = run_loop(empty, count);
      return std::vector{Figure{kWhat, kEntries, 1, run_loop(full, count) - nothing}};
    });
  }
  const auto skep = std::make_shared<SkepNested>(plan.instances + "/nested");
  suite.add("skep", [=, count = plan.operations] {
    const double nothing = skep->time(count, true);
    return std::vector{Figure{kWhat, kEntries, 1, skep->time(count, false) - nothing}};
  });
  suite.add_target({kWhat, Target::Kind::kTimesFaster, "kernel", 1});
}

}  // namespace skep::bench
