// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>

#include "cli/command.h"
#include "cli/objects.h"
#include "storage/owners.h"

namespace skep::cli {
namespace {

std::optional<uint32_t> parse_id(const char* text) {
  uint32_t id = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, id);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return id;
}

bool check_map(Instance& instance, uint32_t id) {
  const auto map = open_map_by_id(instance, id);
  if (!map) {
    complain("map " + std::to_string(id), map.error());
    return false;
  }
  const CheckReport report = (*map)->check();
  std::printf("map %u: %s %.16s, %llu elements, %llu free: %s\n", id, kind_name(**map), (*map)->header().name,
              static_cast<unsigned long long>(report.elements), static_cast<unsigned long long>(report.free_elements),
              report.problem.empty() ? "ok" : report.problem.c_str());
  return report.problem.empty();
}

/// Who has local storage, where anybody ever had.
bool check_owners(Instance& instance) {
  const auto owners = Owners::open(instance.machine(), false);
  if (!owners) {
    if (to_int(owners.error()) == ENOENT) return true;
    complain("owners", owners.error());
    return false;
  }
  const Owners::Census census = (*owners)->census();
  std::printf("owners of local storage: %u, %u elements, %llu bytes charged, %u unfinished: %s\n", census.owners,
              census.entries, static_cast<unsigned long long>(census.charged), census.unfinished,
              census.problem.empty() ? "ok" : census.problem.c_str());
  return census.problem.empty();
}

}  // namespace

int check(Arguments arguments) {
  if (arguments.size() > 1) return usage_error("check takes one map id at most");
  std::optional<uint32_t> wanted;
  if (arguments.size() == 1) {
    wanted = parse_id(arguments[0]);
    if (!wanted) return usage_error("not a map id:", arguments[0]);
  }
  const auto instance = open_instance();
  if (!instance) return 1;
  bool good = true;
  if (wanted) {
    good = check_map(*instance, *wanted);
  } else {
    for (const uint32_t id : living(*instance, ObjectKind::kMap)) good &= check_map(*instance, id);
    good &= check_owners(*instance);
  }
  return good ? 0 : 1;
}

}  // namespace skep::cli
