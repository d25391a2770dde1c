// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace skep {

/// For tests: a fresh directory on /dev/shm, removed with its content at the end.
class TestDirectory {
 public:
  TestDirectory() : path_("/dev/shm/skep-test-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) std::abort();
    fd_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  ~TestDirectory() {
    close(fd_);
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// An unnamed file in it, open for reading and writing; the caller closes it.
  [[nodiscard]] int make_file() const { return open(path_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600); }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace skep
