// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits.h>

#include <cstddef>
#include <optional>
#include <string_view>

namespace skep::preload {

/// Where programs expect the BPF file system.
inline constexpr std::string_view kBpffs = "/sys/fs/bpf";

/// A path that a program gave, as libc is to see it: what is below /sys/fs/bpf leads into the instance's pins, anything
/// else is the program's own pointer, untouched.
///
/// Paths are compared lexically, after "//", "/./" and "/../" are gone. Relative paths are never changed: a program
/// whose working directory is /sys/fs/bpf really stands in the pins.
class ClientPath {
 public:
  explicit ClientPath(const char* path);

  [[nodiscard]] const char* get() const { return path_; }
  [[nodiscard]] bool mapped() const { return path_ == buffer_; }
  /// What the call has to fail with before libc is asked; 0: nothing. EPERM: a name with a dot, which bpffs reserves;
  /// ENOENT, ...: the directory of that name is missing; ENOSYS: skep cannot start; ENAMETOOLONG.
  [[nodiscard]] int error() const { return error_; }
  /// Sets errno to error().
  [[nodiscard]] bool refused() const;

 private:
  void map(std::string_view below, bool directory_wanted);

  const char* path_;
  int error_ = 0;
  char buffer_[PATH_MAX];
};

/// The part of an absolute path that lies below /sys/fs/bpf, without "//", "/./" and "/../", written to `buffer`
/// (capacity bytes): "" for the root itself; nothing if the path lies elsewhere or does not fit.
std::optional<std::string_view> below_bpffs(const char* path, char* buffer, size_t capacity);

/// The opposite way: replaces the pins at the beginning of `path` (length bytes of a buffer of `capacity`, not
/// NUL-terminated) by /sys/fs/bpf. Returns the new length; `length` if it lies elsewhere; what does not fit is cut off.
size_t show_as_bpffs(char* path, size_t length, size_t capacity);

/// Whether `path` is the pins or below.
bool is_below_pins(std::string_view path);

}  // namespace skep::preload
