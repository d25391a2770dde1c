// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <cstring>
#include <string>

#include <sys/stat.h>
#include <unistd.h>

#include "storage/owner_layout.h"

namespace skep {

/// A text that does not fit is left out.
inline OwnerTrace make_trace(uint64_t space, const std::string& text) {
  OwnerTrace trace{};
  trace.space = space;
  if (text.size() < trace.text.size()) std::memcpy(trace.text.data(), text.data(), text.size());
  return trace;
}

inline std::string text_of(const OwnerTrace& trace) {
  return {trace.text.data(), strnlen(trace.text.data(), trace.text.size())};
}

/// The number of a namespace of this thread ("pid", "net", ...); 0 where it cannot be had.
inline uint64_t own_namespace(const char* name) {
  struct stat info {};
  const std::string path = std::string("/proc/thread-self/ns/") + name;
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

/// What a descriptor's link in /proc says.
inline std::string descriptor_path(pid_t process, int fd) {
  char link[64];
  char text[4096];
  std::snprintf(link, sizeof link, "/proc/%d/fd/%d", static_cast<int>(process), fd);
  const ssize_t length = ::readlink(link, text, sizeof text);
  return length > 0 && static_cast<size_t>(length) < sizeof text ? std::string(text, static_cast<size_t>(length)) : "";
}

}  // namespace skep
