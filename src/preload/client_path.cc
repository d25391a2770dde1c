// SPDX-License-Identifier: Apache-2.0
#include "preload/client_path.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "preload/real.h"
#include "preload/runtime.h"

namespace skep::preload {
namespace {

/// Where a name with a dot begins in a normalised relative path; npos: no such name.
size_t find_dotted_name(std::string_view path) {
  const size_t dot = path.find('.');
  if (dot == std::string_view::npos) return dot;
  const size_t slash = path.rfind('/', dot);
  return slash == std::string_view::npos ? 0 : slash + 1;
}

}  // namespace

std::optional<std::string_view> below_bpffs(const char* path, char* buffer, size_t capacity) {
  size_t length = 0;  // of the normalised path so far: "" or "/name/name"
  for (std::string_view rest = path; !rest.empty();) {
    const size_t end = std::min(rest.find('/'), rest.size());
    const std::string_view name = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (name.empty() || name == ".") continue;
    if (name == "..") {
      while (length > 0 && buffer[--length] != '/') {
      }
      continue;
    }
    if (length + 1 + name.size() > capacity) return std::nullopt;
    buffer[length++] = '/';
    std::memcpy(buffer + length, name.data(), name.size());
    length += name.size();
  }
  const std::string_view whole(buffer, length);
  if (!whole.starts_with(kBpffs)) return std::nullopt;
  const std::string_view below = whole.substr(kBpffs.size());
  if (below.empty()) return below;
  if (below.front() != '/') return std::nullopt;
  return below.substr(1);
}

ClientPath::ClientPath(const char* path) : path_(path) {
  if (path == nullptr || path[0] != '/' || std::strstr(path, "bpf") == nullptr) return;
  char normalised[PATH_MAX];
  const auto below = below_bpffs(path, normalised, sizeof(normalised));
  if (below) map(*below, path[std::strlen(path) - 1] == '/');
}

void ClientPath::map(std::string_view below, bool directory_wanted) {
  path_ = buffer_;
  const Places* places = make_places();
  if (places == nullptr) {
    error_ = ENOSYS;
    return;
  }
  const std::string_view pins = places->pins;
  if (pins.size() + below.size() + 3 > sizeof(buffer_)) {
    error_ = ENAMETOOLONG;
    return;
  }
  char* end = std::copy(pins.begin(), pins.end(), buffer_);
  *end = '\0';
  if (below.empty()) return;
  const size_t dotted = find_dotted_name(below);
  *end++ = '/';
  char* const name = end;
  end = std::copy(below.begin(), below.end(), end);
  if (directory_wanted) *end++ = '/';
  *end = '\0';
  if (dotted == std::string_view::npos) return;
  name[dotted] = '\0';
  error_ = real::access(buffer_, X_OK) == 0 ? EPERM : errno;
}

bool ClientPath::refused() const {
  if (error_ == 0) [[likely]]
    return false;
  errno = error_;
  return true;
}

bool is_below_pins(std::string_view path) {
  const Places* places = find_places();
  if (places == nullptr || !path.starts_with(places->pins)) return false;
  return path.size() == places->pins.size() || path[places->pins.size()] == '/';
}

size_t show_as_bpffs(char* path, size_t length, size_t capacity) {
  const std::string_view whole(path, length);
  // Cheap first: every path below the pins contains this.
  if (whole.find("/pins") == std::string_view::npos || !is_below_pins(whole)) return length;
  const size_t pins = find_places()->pins.size();
  const size_t head = std::min(kBpffs.size(), capacity);
  const size_t tail = std::min(length - pins, capacity - head);
  std::memmove(path + head, path + pins, tail);
  std::memcpy(path, kBpffs.data(), head);
  return head + tail;
}

}  // namespace skep::preload
