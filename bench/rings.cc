// SPDX-License-Identifier: Apache-2.0
// Reserve and submit of 8-byte records into a ring buffer, as a program's helpers do them, by one thread and by two.
// The consumer is no part of it: each thread gives the ring's room back from time to time.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "loop_parameters.h"
#include "machine/lease.h"
#include "maps/ringbuf_map.h"
#include "object/instance.h"
#include "sources.h"
#include "threads.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#include "ring_loops.skel.h"
#pragma GCC diagnostic pop

namespace skep::bench {

namespace {

constexpr uint32_t kRingSize = 1 << 20;  // bytes
constexpr uint64_t kChunk = 16384;       // records between two reliefs, of each thread
struct Operation {
  const char* what;
  int threads;
  double target;  // times faster than the kernel
};
constexpr Operation kOperations[] = {{"RINGBUF reserve and submit, in a program", 1, 3},
                                     {"RINGBUF reserve and submit, in two programs at once", 2, 4}};
enum class Loop { kEmpty, kReserveSubmit };

[[noreturn]] void give_up(const char* what, int error) {
  std::fprintf(stderr, "%s: error %d %s\n", what, error, last_error_sentence());
  std::exit(1);
}

/// Passes all records; never back.
void relieve(std::atomic<uint64_t>& consumer, const std::atomic<uint64_t>& producer) {
  const uint64_t end = producer.load();
  uint64_t seen = consumer.load();
  while (seen < end && !consumer.compare_exchange_weak(seen, end)) {
  }
}

class KernelRing {
 public:
  /// Null, after a sentence on stderr, where the kernel refuses.
  static std::unique_ptr<KernelRing> load() {
    libbpf_set_print(nullptr);
    std::unique_ptr<KernelRing> ring(new KernelRing);
    ring->skeleton_ = ring_loops__open_and_load();
    if (ring->skeleton_ != nullptr && ring->map_positions()) return ring;
    std::fprintf(stderr, "no kernel figures for ring buffers\n");
    return nullptr;
  }
  KernelRing(const KernelRing&) = delete;
  KernelRing& operator=(const KernelRing&) = delete;
  ~KernelRing() {
    if (skeleton_ != nullptr) ring_loops__destroy(skeleton_);
  }

  void run(Loop loop, uint64_t iterations) {
    bpf_program* const program = loop == Loop::kEmpty ? skeleton_->progs.empty : skeleton_->progs.reserve_submit;
    unsigned char packet[64] = {};
    skeleton_->bss->iterations = static_cast<uint32_t>(kChunk);
    for (uint64_t done = 0; done < iterations;) {
      relieve(*consumer_, *producer_);
      LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet), .repeat = 1);
      const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options);
      if (error != 0 || options.retval > kChunk) give_up("a kernel ring", error);
      done += options.retval;
      if (options.retval < kChunk) std::this_thread::yield();
    }
  }

 private:
  KernelRing() = default;
  bool map_positions() {
    const int fd = bpf_map__fd(skeleton_->maps.ring);
    void* const consumer = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void* const producer = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 4096);
    consumer_ = static_cast<std::atomic<uint64_t>*>(consumer);
    producer_ = static_cast<const std::atomic<uint64_t>*>(producer);
    return consumer != MAP_FAILED && producer != MAP_FAILED;
  }
  ring_loops* skeleton_ = nullptr;
  std::atomic<uint64_t>* consumer_ = nullptr;
  const std::atomic<uint64_t>* producer_ = nullptr;
};

class SkepRing {
 public:
  explicit SkepRing(std::shared_ptr<Instance> instance) : instance_(std::move(instance)) {
    Result<FileDescriptor> file = instance_->make_file(ObjectKind::kMap);
    if (!file) give_up("a map file", to_int(file.error()));
    MapCreation creation{};
    creation.spec.type = 27;
    creation.spec.max_entries = kRingSize;
    Result<std::unique_ptr<Map>> map = create_map(file->get(), creation, instance_->machine());
    if (!map) give_up("a map", to_int(map.error()));
    map_ = std::move(*map);
  }

  void run(Loop loop, uint64_t iterations, int thread) {
    auto& ring = static_cast<RingbufMap&>(*map_);
    const Lease lease(instance_->machine(), Lease::Cpu{static_cast<uint32_t>(thread) % instance_->machine().cpus()});
    uint64_t state = 1;
    uint64_t sum = 0;
    // Whole chunks, as the kernel's programs run.
    for (uint64_t done = 0; done < iterations; done += kChunk) {
      relieve(ring.area().consumer(), ring.area().producer());
      for (uint64_t i = 0; i < kChunk; ++i) {
        const uint64_t random = BENCH_NEXT(state);
        sum += random & 1;
        if (loop == Loop::kEmpty) continue;
        std::byte* record;
        // The other thread may have lost its CPU while it holds a record.
        while ((record = ring.reserve(lease, sizeof(random))) == nullptr) {
          std::this_thread::yield();
          relieve(ring.area().consumer(), ring.area().producer());
        }
        std::memcpy(record, &random, sizeof(random));
        ring.submit(record, 0);
      }
    }
    keep(sum);
  }

 private:
  std::shared_ptr<Instance> instance_;
  std::unique_ptr<Map> map_;
};

/// Net of the empty loop, which runs just before.
template <class Run>
Suite::Measure measure(const Operation& operation, uint64_t iterations, Run run) {
  return [=] {
    const auto time = [&](Loop loop) {
      return time_threads(operation.threads, iterations, [&](int thread, uint64_t count) { run(loop, count, thread); });
    };
    const double empty = time(Loop::kEmpty);
    return std::vector{Figure{operation.what, kRingSize, operation.threads, time(Loop::kReserveSubmit) - empty}};
  };
}

}  // namespace

void add_rings(Suite& suite, const Plan& plan) {
  Result<std::shared_ptr<Instance>> instance = Instance::open(plan.instances + "/rings");
  if (!instance) give_up("an instance", to_int(instance.error()));
  const std::shared_ptr<KernelRing> kernel = KernelRing::load();
  const auto skep = std::make_shared<SkepRing>(*instance);
  const uint64_t operations = plan.operations / kChunk * kChunk;
  for (const Operation& operation : kOperations) {
    if (kernel) {
      suite.add("kernel",
                measure(operation, operations, [kernel](Loop loop, uint64_t count, int) { kernel->run(loop, count); }));
    }
    suite.add("skep", measure(operation, operations,
                              [skep](Loop loop, uint64_t count, int thread) { skep->run(loop, count, thread); }));
    suite.add_target({operation.what, Target::Kind::kTimesFaster, "kernel", operation.target});
  }
}

}  // namespace skep::bench
