// SPDX-License-Identifier: Apache-2.0
#include "memory/available_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>

namespace skep {
namespace {

constexpr uint64_t kUnknown = UINT64_MAX;

std::string read_whole(const std::string& path) {
  std::string text;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char part[4096];
  ssize_t got = 0;
  while ((got = read(fd, part, sizeof(part))) > 0) text.append(part, static_cast<size_t>(got));
  close(fd);
  return text;
}

uint64_t host_memory() {
  const std::string text = read_whole("/proc/meminfo");
  const uint64_t available = number_after(text, "MemAvailable:", kUnknown);
  if (available == kUnknown) return kUnknown;
  return (available + number_after(text, "SwapFree:", 0)) * 1024;
}

/// Room in one cgroup: its limit less what is in use and cannot be dropped (page cache other than tmpfs can).
uint64_t cgroup_memory(const std::string& directory) {
  const uint64_t limit = number_after(read_whole(directory + "/memory.max"), "", kUnknown);
  if (limit == kUnknown) return kUnknown;
  const uint64_t current = number_after(read_whole(directory + "/memory.current"), "", 0);
  const std::string stat = read_whole(directory + "/memory.stat");
  const uint64_t file = number_after(stat, "file ", 0);
  const uint64_t droppable = file - std::min(file, number_after(stat, "shmem ", 0));
  const uint64_t used = current - std::min(current, droppable);
  return limit - std::min(limit, used);
}

}  // namespace

uint64_t number_after(std::string_view text, std::string_view name, uint64_t missing) {
  for (size_t at = 0; at < text.size();) {
    std::string_view line = text.substr(at, text.find('\n', at) - at);
    at += line.size() + 1;
    if (!line.starts_with(name)) continue;
    line.remove_prefix(std::min(line.find_first_not_of(' ', name.size()), line.size()));
    uint64_t number = 0;
    const auto parsed = std::from_chars(line.data(), line.data() + line.size(), number);
    return parsed.ec == std::errc{} ? number : missing;
  }
  return missing;
}

uint64_t available_memory() {
  uint64_t least = host_memory();
  constexpr std::string_view kOwnGroup = "0::/";
  const std::string groups = read_whole("/proc/self/cgroup");
  const size_t at = groups.find(kOwnGroup);
  if (at == std::string::npos) return least;
  const size_t path = at + kOwnGroup.size() - 1;
  std::string directory = groups.substr(path, groups.find('\n', path) - path);
  while (true) {
    least = std::min(least, cgroup_memory("/sys/fs/cgroup" + directory));
    if (directory.size() <= 1) return least;
    directory.resize(directory.rfind('/'));
  }
}

}  // namespace skep
