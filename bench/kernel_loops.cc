// SPDX-License-Identifier: Apache-2.0
#include "kernel_loops.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#include "kernel_loops.skel.h"
#pragma GCC diagnostic pop
#include "loop_parameters.h"
#include "sizes.h"
#include "threads.h"

namespace skep::bench {

namespace {

/// Gives keys 0 .. entries-1 a value on every CPU.
bool fill(const bpf_map* map, uint64_t entries) {
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  const std::vector<uint64_t> value(cpus, 1);
  const bool per_cpu = bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_HASH;
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t key = BENCH_KEY(i);
    if (bpf_map__update_elem(map, &key, 8, value.data(), per_cpu ? 8 * cpus : 8, BPF_ANY) != 0) return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<KernelLoops> KernelLoops::load(uint64_t size) {
  libbpf_set_print(nullptr);
  std::unique_ptr<KernelLoops> loops(new KernelLoops);
  loops->skeleton_ = kernel_loops__open();
  kernel_loops* skeleton = loops->skeleton_;
  bool loaded = skeleton != nullptr;
  if (loaded) {
    for (bpf_map* map :
         {skeleton->maps.hash, skeleton->maps.percpu_hash, skeleton->maps.array, skeleton->maps.percpu_array}) {
      bpf_map__set_max_entries(map, static_cast<uint32_t>(size));
    }
    skeleton->bss->entries = size - kSpare;
    skeleton->bss->seed = 1;
    loaded = kernel_loops__load(skeleton) == 0 && fill(skeleton->maps.hash, size - kSpare) &&
             fill(skeleton->maps.percpu_hash, size - kSpare);
  }
  if (loaded) return loops;
  std::fprintf(stderr, "no kernel figures for programs at %llu entries: %s\n", static_cast<unsigned long long>(size),
               std::strerror(errno));
  return nullptr;
}

KernelLoops::~KernelLoops() {
  if (skeleton_ != nullptr) kernel_loops__destroy(skeleton_);
}

double KernelLoops::run(bpf_program* program, uint64_t iterations) {
  unsigned char packet[64] = {};
  skeleton_->bss->iterations = static_cast<uint32_t>(iterations);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet), .repeat = 1);
  const uint64_t started = now();
  const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options);
  const uint64_t time = now() - started;
  if (error != 0 || skeleton_->bss->result >> 32 != 0) {
    std::fprintf(stderr, "%s: error %d, %llu operations failed\n", bpf_program__name(program), error,
                 static_cast<unsigned long long>(skeleton_->bss->result >> 32));
    std::exit(1);
  }
  return static_cast<double>(time) / static_cast<double>(iterations);
}

double KernelLoops::time(Loop loop, uint64_t iterations) {
  const auto& programs = skeleton_->progs;
  bpf_program* const of_loop[] = {
      programs.hash_lookup,         programs.hash_update,        programs.hash_churn,   programs.percpu_hash_lookup,
      programs.percpu_hash_update,  programs.percpu_hash_churn,  programs.array_lookup, programs.array_update,
      programs.percpu_array_lookup, programs.percpu_array_update};
  const double empty = run(programs.empty, iterations);
  return run(of_loop[static_cast<size_t>(loop)], iterations) - empty;
}

uint64_t KernelLoops::hash_memory() const {
  std::ifstream fdinfo("/proc/self/fdinfo/" + std::to_string(bpf_map__fd(skeleton_->maps.hash)));
  std::string word;
  uint64_t memory = 0;
  while (fdinfo >> word) {
    if (word == "memlock:") fdinfo >> memory;
  }
  return memory;
}

}  // namespace skep::bench
