// SPDX-License-Identifier: Apache-2.0
#include "object/object_name.h"

#include <charconv>
#include <cstdio>

namespace skep {

const char* kind_directory(ObjectKind kind) {
  switch (kind) {
    case ObjectKind::kMap:
      return "bpf-map";
    case ObjectKind::kProgram:
      return "bpf-prog";
    case ObjectKind::kBtf:
      return "btf";
    case ObjectKind::kLink:
      return "bpf-link";
    case ObjectKind::kPerfEvent:
      return "perf-event";
    case ObjectKind::kMachine:
    case ObjectKind::kOwners:
      break;
  }
  return "none";
}

ObjectName::ObjectName(ObjectKind kind, uint32_t id) {
  const char* directory = kind_directory(kind);
  std::snprintf(path_, sizeof path_, "%s/%u", directory, id);
  std::snprintf(flat_, sizeof flat_, "%s-%u", directory, id);
  std::snprintf(holds_, sizeof holds_, "holds/%s-%u", directory, id);
}

std::optional<uint32_t> parse_id(std::string_view text) {
  uint32_t id = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, id);
  if (error != std::errc{} || stop != end || id == 0 || text.front() == '0') return std::nullopt;
  return id;
}

std::optional<std::pair<ObjectKind, uint32_t>> parse_flat_name(std::string_view name) {
  name = name.substr(0, name.find('.'));
  const size_t dash = name.rfind('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::optional<uint32_t> id = parse_id(name.substr(dash + 1));
  if (!id) return std::nullopt;
  for (const ObjectKind kind : kFileKinds)
    if (name.substr(0, dash) == kind_directory(kind)) return std::pair(kind, *id);
  return std::nullopt;
}

}  // namespace skep
