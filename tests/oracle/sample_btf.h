// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace skep::oracle {

/// A small BTF blob with the types that maps of the oracle tests use.
enum SampleType : uint32_t {
  kU32 = 1,          // unsigned int, 4 bytes
  kU64 = 2,          // unsigned long, 8 bytes
  kSpinLock = 3,     // struct bpf_spin_lock, 4 bytes
  kLockedValue = 4,  // struct { u64 a; struct bpf_spin_lock lock; u32 b; u64 c; }, 24 bytes, lock at 8
  kPlainValue = 5,   // struct { u64 a; u64 b; }, 16 bytes
  kStorageKey = 6,   // struct { u64 a; u32 b; }, 16 bytes: as struct bpf_cgroup_storage_key
  kSampleTypeEnd = 7,
};
std::vector<uint8_t> sample_btf();

}  // namespace skep::oracle
