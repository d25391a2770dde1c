// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <skep/bpf.h>

#include <cstdint>
#include <string>
#include <vector>

namespace skep::stress {

/// A temporary instance for a test program, in SKEP_DIR while its tests run. One per program, because a process opens
/// its default instance once: ::testing::AddGlobalTestEnvironment(new TemporaryInstance).
class TemporaryInstance : public ::testing::Environment {
 public:
  void SetUp() override;
  void TearDown() override;

 private:
  std::string directory_;
};

/// A map under test, used through skep_bpf() alone: what threads and forked processes share is the descriptor.
struct SharedMap {
  const char* name;
  uint32_t type, flags, max_entries;
  int fd = -1;

  static constexpr uint32_t kKeySize = 4;
  static constexpr uint32_t kValueSize = 40;  // five words that verify each other

  [[nodiscard]] bool is_array() const;
  [[nodiscard]] bool is_per_cpu() const;
  [[nodiscard]] uint32_t user_value_size() const;  // bytes of one value on the syscall side

  void create();
  // Each returns 0 or the errno.
  int lookup(uint32_t key, void* value) const;
  int update(uint32_t key, const void* value, uint64_t flags) const;
  int erase(uint32_t key) const;
  int take(uint32_t key, void* value) const;
  int next_key(const uint32_t* key, uint32_t* next) const;
  int batch(int command, const void* in, void* out, uint32_t* keys, void* values, uint32_t* count) const;

  /// Runs the map's own invariant checker; "" when every invariant holds. Nobody else may write meanwhile.
  [[nodiscard]] std::string check() const;
};

/// One of each kind, none created yet.
std::vector<SharedMap> all_kinds(uint32_t max_entries);

}  // namespace skep::stress
