// SPDX-License-Identifier: Apache-2.0
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <string>

#include "prog/helpers.h"
#include "prog/number_parse.h"
#include "prog/print_format.h"

namespace skep::helpers {
namespace {

constexpr size_t kMaxPrint = 1024;    // bytes of one printed text, NUL included
constexpr size_t kMaxArguments = 12;  // of snprintf and vprintk

/// A private copy of what the program passed: other threads may change it meanwhile.
std::array<uint64_t, kMaxArguments> copy_arguments(uint64_t address, uint64_t bytes) {
  std::array<uint64_t, kMaxArguments> copy{};
  if (bytes != 0) std::memcpy(copy.data(), memory<const void>(address), bytes);
  return copy;
}

bool arguments_fit(uint64_t bytes) { return bytes % 8 == 0 && bytes <= kMaxArguments * 8; }

/// Formats into a line as the kernel's trace pipe shows it and hands it to the sink. Returns what the helper returns.
uint64_t print(Run& run, uint64_t format, uint64_t size, std::span<const uint64_t> arguments) {
  const std::string copy(memory<const char>(format), size);
  const size_t end = copy.find('\0');
  if (end == std::string::npos) return error_value(EINVAL);
  std::array<char, kMaxPrint> text;
  const int64_t length = format_print(text.data(), text.size(), std::string_view(copy).substr(0, end), arguments);
  if (length < 0 || run.environment().trace == nullptr) return static_cast<uint64_t>(length);
  char name[16] = {};
  prctl(PR_GET_NAME, name);
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto thread = static_cast<uint32_t>(get_current_pid_tgid(run, 0, 0, 0, 0, 0));
  std::array<char, kMaxPrint + 128> line;
  const int count =
      std::snprintf(line.data(), line.size(), "%16s-%-7u [%03u] ..... %5lld.%06ld: bpf_trace_printk: %s", name, thread,
                    run.lease().cpu(), static_cast<long long>(now.tv_sec), now.tv_nsec / 1000, text.data());
  run.environment().trace->line({line.data(), static_cast<size_t>(count)});
  return static_cast<uint64_t>(length);
}

}  // namespace

uint64_t strncmp(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  const std::string_view second = run.text(c).value_or("");
  const auto* first = memory<const unsigned char>(a);
  for (uint64_t i = 0; i < b; ++i) {
    const unsigned char right = i < second.size() ? static_cast<unsigned char>(second[i]) : 0;
    if (first[i] != right) return first[i] < right ? error_value(1) : 1;
    if (right == 0) break;
  }
  return 0;
}

uint64_t strtol(Run&, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  int64_t& result = *memory<int64_t>(d);
  result = 0;
  const auto parsed = parse_number({memory<const char>(a), b}, c);
  if (!parsed) return error_value(to_int(parsed.error()));
  const uint64_t limit = parsed->negative ? uint64_t{1} << 63 : INT64_MAX;
  if (parsed->magnitude > limit) return error_value(ERANGE);
  result = static_cast<int64_t>(parsed->negative ? 0 - parsed->magnitude : parsed->magnitude);
  return parsed->consumed;
}

uint64_t strtoul(Run&, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  uint64_t& result = *memory<uint64_t>(d);
  result = 0;
  const auto parsed = parse_number({memory<const char>(a), b}, c);
  if (!parsed) return error_value(to_int(parsed.error()));
  if (parsed->negative) return error_value(EINVAL);
  result = parsed->magnitude;
  return parsed->consumed;
}

uint64_t snprintf(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  if (!arguments_fit(e)) return error_value(EINVAL);
  const std::string format(run.text(c).value_or(""));
  const auto arguments = copy_arguments(d, e);
  const int64_t length = format_print(memory<char>(a), b, format, {arguments.data(), e / 8});
  return static_cast<uint64_t>(length < 0 ? length : length + 1);
}

uint64_t trace_printk(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  const std::array<uint64_t, 3> arguments{c, d, e};
  return print(run, a, b, arguments);
}

uint64_t trace_vprintk(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  if (!arguments_fit(d)) return error_value(EINVAL);
  const auto arguments = copy_arguments(c, d);
  return print(run, a, b, {arguments.data(), d / 8});
}

}  // namespace skep::helpers
