// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "memory/file_header.h"

namespace skep::preload {

/// What a path below /proc (or /dev/fd) is about, as far as this library has an answer of its own.
struct ProcPath {
  enum class What { kOther, kDescriptorLink, kDescriptorInfo, kMounts };
  What what = What::kOther;
  int process = 0;  // 0: this one
  int fd = -1;

  /// Two comparisons for a path that is not below /proc or /dev/fd.
  static ProcPath parse(const char* path);
};

/// What readlink(2) of a descriptor says on the kernel ("anon_inode:bpf-map"); null if it is no object of the instance.
const char* descriptor_name(const ProcPath& path);

/// The content that the path has on the kernel, as a descriptor to read it from; nothing: the real one is right.
std::optional<int> open_proc_text(const ProcPath& path, int flags);
/// The same as a stream.
FILE* open_proc_stream(const ProcPath& path, const char* mode);

/// `real_mounts` (the text of /proc/mounts) with a BPF file system at /sys/fs/bpf.
std::string with_bpffs_mount(std::string real_mounts);

}  // namespace skep::preload
