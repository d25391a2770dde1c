// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <skep/abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "object/temporary_instance.h"
#include "syscall/process.h"

namespace skep {

/// bpf(2) of one side, with a diary of what it answered: the same script on both sides must give the same diary.
class Face {
 public:
  explicit Face(Process* process) : process_(process) {}  // null: the kernel
  [[nodiscard]] bool is_kernel() const { return process_ == nullptr; }

  /// The result, or -errno.
  int call(int cmd, bpf_attr* attr, unsigned size) {
    if (!is_kernel()) return bpf(*process_, cmd, attr, size);
    const long result = ::syscall(__NR_bpf, cmd, attr, size);
    return result < 0 ? -errno : static_cast<int>(result);
  }
  int call(int cmd, bpf_attr attr) { return call(cmd, &attr, sizeof attr); }

  void note(const std::string& what, int64_t value) { diary_.push_back(what + " = " + std::to_string(value)); }
  void note(const std::string& what, const std::string& value) { diary_.push_back(what + " = " + value); }
  /// Notes a result in which any descriptor is as good as any other.
  void expect(const std::string& what, int result) { note(what, result > 0 ? 0 : result); }
  [[nodiscard]] const std::vector<std::string>& diary() const { return diary_; }

 private:
  Process* process_;
  std::vector<std::string> diary_;
};

inline bpf_attr map_attr(uint32_t type, uint32_t key, uint32_t value, uint32_t entries, uint32_t flags = 0) {
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.map_type = type;
  attr.key_size = key;
  attr.value_size = value;
  attr.max_entries = entries;
  attr.map_flags = flags;
  return attr;
}

inline bpf_attr element_attr(int fd, const void* key, const void* value, uint64_t flags = 0) {
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.map_fd = static_cast<uint32_t>(fd);
  attr.key = reinterpret_cast<uint64_t>(key);
  attr.value = reinterpret_cast<uint64_t>(value);
  attr.flags = flags;
  return attr;
}

inline bpf_attr no_attr() {
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  return attr;
}

/// Tests on a skep of their own, and on the kernel where it answers.
class TwoFaces : public ::testing::Test {
 protected:
  void SetUp() override {
    auto instance = Instance::open(directory_.path());
    ASSERT_TRUE(instance) << last_error_sentence();
    process_ = std::make_unique<Process>(*instance);
  }

  /// Runs the script on both sides and compares what they say.
  void compare(const std::function<void(Face&)>& script) {
    Face skep(process_.get());
    script(skep);
    Face kernel(nullptr);
    const int probe = kernel.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 4, 1));
    if (probe < 0) GTEST_SKIP() << "the kernel refuses bpf(2): " << std::strerror(-probe);
    ::close(probe);
    script(kernel);
    ASSERT_EQ(skep.diary().size(), kernel.diary().size());
    for (size_t i = 0; i < skep.diary().size(); ++i)
      EXPECT_EQ(skep.diary()[i], kernel.diary()[i]) << "(skep first, kernel second)";
  }

  TestDirectory directory_;
  std::unique_ptr<Process> process_;
};

}  // namespace skep
