// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <string>

#include "memory/result.h"

namespace skep {

/// The machine's file as a process keeps in touch with it: one close-on-exec descriptor with a high number, of an open
/// file description that holds no lock except while a recovery goes on.
///
/// The application may close descriptors that it does not know (closefrom(3)) and reuse their numbers, so every use
/// first checks that the number still means the machine's file, and otherwise opens it again by its path.
/// All but open_in() are async-signal-safe and safe in any thread.
class MachineFile {
 public:
  MachineFile() = default;
  MachineFile(const MachineFile&) = delete;
  MachineFile& operator=(const MachineFile&) = delete;
  ~MachineFile();

  /// Opens the machine of the directory, which is made when it is missing, and checks what can be checked before it is
  /// mapped. Returns a descriptor of an open file description of its own, which the caller closes.
  Result<int> open_in(int directory_fd);

  /// The kept descriptor; -1 when it cannot be had.
  int descriptor();
  /// A new open file description, which the caller closes; -1 when it cannot be had.
  int reopen();
  /// In a forked child: drops the description that is shared with the parent and opens another.
  void separate_from_parent();

  /// Where the file lies, absolute.
  [[nodiscard]] const std::string& path() const { return path_; }

  friend bool operator==(const MachineFile& a, const MachineFile& b) {
    return a.device_ == b.device_ && a.inode_ == b.inode_;
  }

 private:
  [[nodiscard]] bool is_machine(int fd) const;
  [[nodiscard]] int open_checked(const char* path) const;
  [[nodiscard]] int open_high(const char* path) const;

  std::atomic<int> kept_{-1};
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::string path_;  // absolute
};

}  // namespace skep
