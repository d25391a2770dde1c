// SPDX-License-Identifier: Apache-2.0
#include "cli/objects.h"

#include <cstdio>
#include <cstring>

#include "memory/result.h"

namespace skep::cli {

std::shared_ptr<Instance> open_instance() {
  const std::string directory = Instance::default_directory();
  clear_last_error();
  auto instance = Instance::open(directory);
  if (instance) return *instance;
  complain(directory, instance.error());
  return nullptr;
}

void complain(const std::string& subject, Errno error) {
  const char* sentence = last_error_sentence();
  if (*sentence != '\0') {
    std::fprintf(stderr, "skep: %s\n", sentence);
  } else {
    std::fprintf(stderr, "skep: %s: %s\n", subject.c_str(), std::strerror(to_int(error)));
  }
}

std::vector<uint32_t> living(Instance& instance, ObjectKind kind) {
  std::vector<uint32_t> ids;
  for (auto id = instance.next_id(kind, 0); id; id = instance.next_id(kind, *id)) ids.push_back(*id);
  return ids;
}

Result<std::unique_ptr<Map>> open_map_by_id(Instance& instance, uint32_t id) {
  clear_last_error();
  auto fd = instance.open_by_id(ObjectKind::kMap, id, O_RDONLY);
  if (!fd) return std::unexpected(fd.error());
  return open_map(fd->get(), Access::kReadOnly, instance.machine());
}

const char* kind_name(const Map& map) {
  const MapKind* kind = find_map_kind(map.spec().type);
  return kind != nullptr ? kind->name : "?";
}

}  // namespace skep::cli
