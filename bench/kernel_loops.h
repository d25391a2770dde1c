// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

struct kernel_loops;
struct bpf_program;

namespace skep::bench {

/// Map operations in the kernel's own compiled programs, on maps of one size, filled but for kSpare entries.
class KernelLoops {
 public:
  enum class Loop {
    kHashLookup,
    kHashUpdate,
    kHashChurn,  // insert and delete of a fresh key
    kPerCpuHashLookup,
    kPerCpuHashUpdate,
    kPerCpuHashChurn,
    kArrayLookup,
    kArrayUpdate,
    kPerCpuArrayLookup,
    kPerCpuArrayUpdate,
  };

  /// Null, after a sentence on stderr, where the kernel refuses.
  static std::unique_ptr<KernelLoops> load(uint64_t size);
  KernelLoops(const KernelLoops&) = delete;
  KernelLoops& operator=(const KernelLoops&) = delete;
  ~KernelLoops();

  /// Nanoseconds of one iteration, net of the empty loop, which runs just before.
  double time(Loop loop, uint64_t iterations);
  /// Bytes of memory that the kernel accounts for the HASH map.
  [[nodiscard]] uint64_t hash_memory() const;

 private:
  KernelLoops() = default;
  double run(bpf_program* program, uint64_t iterations);

  kernel_loops* skeleton_ = nullptr;
};

}  // namespace skep::bench
