// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "lru_subjects.h"
#include "lru_thread.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#include "lru_loops.skel.h"
#pragma GCC diagnostic pop
#include "loop_parameters.h"

namespace skep::bench {
namespace {

class KernelLru final : public LruSubject {
 public:
  explicit KernelLru(lru_loops* skeleton) : skeleton_(skeleton) {}
  KernelLru(const KernelLru&) = delete;
  KernelLru& operator=(const KernelLru&) = delete;
  ~KernelLru() override { lru_loops__destroy(skeleton_); }

  void run(Loop loop, int, uint64_t count) override {
    const auto& programs = skeleton_->progs;
    bpf_program* const of_loop[] = {programs.empty, programs.lookup, programs.update, programs.insert};
    run(of_loop[static_cast<size_t>(loop)], count);
  }
  uint64_t replay(const std::vector<uint64_t>& keys) override {
    const size_t bytes = keys.size() * sizeof(uint64_t);
    void* trace = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(skeleton_->maps.trace), 0);
    if (trace == MAP_FAILED) {
      std::perror("the trace");
      std::exit(1);
    }
    std::memcpy(trace, keys.data(), bytes);
    munmap(trace, bytes);
    for (auto& thread : skeleton_->bss->threads) thread.hits = 0;
    run(skeleton_->progs.replay, keys.size());
    uint64_t hits = 0;
    for (const auto& thread : skeleton_->bss->threads) hits += thread.hits;
    return hits;
  }

 private:
  void run(bpf_program* program, uint64_t count) {
    unsigned char packet[64] = {};
    __atomic_store_n(&skeleton_->bss->iterations, static_cast<uint32_t>(count), __ATOMIC_RELAXED);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet), .repeat = 1);
    if (const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options); error != 0) {
      std::fprintf(stderr, "%s: error %d\n", bpf_program__name(program), error);
      std::exit(1);
    }
  }

  lru_loops* skeleton_;
};

bool set_up(lru_loops* skeleton, uint32_t size, uint64_t entries, uint32_t flags, uint32_t trace) {
  bpf_map__set_max_entries(skeleton->maps.lru, size);
  bpf_map__set_map_flags(skeleton->maps.lru, flags);
  bpf_map__set_max_entries(skeleton->maps.trace, trace);
  if (lru_loops__load(skeleton) != 0) return false;
  skeleton->bss->entries = entries;
  uint64_t number = 0;
  for (auto& thread : skeleton->bss->threads) {
    thread.random = number + 1;
    thread.fresh = entries + (number << 40) + number % 2;
    ++number;
  }
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t key = BENCH_KEY(i), value = 1;
    if (bpf_map__update_elem(skeleton->maps.lru, &key, 8, &value, 8, BPF_ANY) != 0) return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<LruSubject> load_kernel_lru(uint32_t size, uint64_t entries, uint32_t flags, uint32_t trace) {
  libbpf_set_print(nullptr);
  lru_loops* skeleton = lru_loops__open();
  if (skeleton != nullptr && set_up(skeleton, size, entries, flags, trace)) {
    return std::make_unique<KernelLru>(skeleton);
  }
  std::fprintf(stderr, "no kernel figures for LRU maps of %u entries: %s\n", size, std::strerror(errno));
  if (skeleton != nullptr) lru_loops__destroy(skeleton);
  return nullptr;
}

}  // namespace skep::bench
