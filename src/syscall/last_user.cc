// SPDX-License-Identifier: Apache-2.0
#include "syscall/last_user.h"

#include <unistd.h>

#include <cstddef>

#include "syscall/reference_store.h"

namespace skep {
namespace {

bool ends_with_its_users(int fd) {
  uint32_t type = 0;
  constexpr uint64_t kType = kHeaderOffset + offsetof(MapHeader, spec) + offsetof(MapSpec, type);
  return ::pread(fd, &type, sizeof type, static_cast<off_t>(kType)) == sizeof type && ends_with_users(type);
}

}  // namespace

void map_lost_its_users(Process& process, uint32_t id) {
  {
    const Result<FileDescriptor> unused = process.instance->open_unused_map(id, ends_with_its_users);
    if (!unused) return;
    const Result<std::shared_ptr<Map>> map = process.descriptors.map_of(unused->get());
    if (!map) return;
    const MapKind* kind = find_map_kind((*map)->spec().type);
    (void)ReferenceStore(process, **map, *find_reference_kind(kind->values)).clear();
  }
  // What was in it may have been all that kept the map.
  process.instance->collect(ObjectKind::kMap, id);
}

}  // namespace skep
