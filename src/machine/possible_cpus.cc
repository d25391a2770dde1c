// SPDX-License-Identifier: Apache-2.0
#include "machine/possible_cpus.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

namespace skep {

uint32_t count_cpu_list(std::string_view list) {
  while (!list.empty() && list.back() == '\n') list.remove_suffix(1);
  uint32_t count = 0;
  const char* at = list.data();
  const char* const end = at + list.size();
  while (at < end) {
    uint32_t first = 0;
    const auto number = std::from_chars(at, end, first);
    if (number.ec != std::errc{}) return 0;
    uint32_t last = first;
    at = number.ptr;
    if (at < end && *at == '-') {
      const auto upper = std::from_chars(at + 1, end, last);
      if (upper.ec != std::errc{} || last < first) return 0;
      at = upper.ptr;
    }
    count += last - first + 1;
    if (at < end && *at++ != ',') return 0;
  }
  return count;
}

uint32_t possible_cpus() {
  char text[4096];
  const int fd = open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    const ssize_t length = read(fd, text, sizeof(text));
    close(fd);
    const uint32_t count = length > 0 ? count_cpu_list({text, static_cast<size_t>(length)}) : 0;
    if (count > 0) return count;
  }
  return static_cast<uint32_t>(std::max(1L, sysconf(_SC_NPROCESSORS_CONF)));
}

}  // namespace skep
