// SPDX-License-Identifier: Apache-2.0
#include "syscall/last_user.h"

#include <unistd.h>

#include <cstddef>

#include "maps/field_gaps.h"
#include "syscall/reference_store.h"

namespace skep {
namespace {

bool ends_with_its_users(int fd) {
  MapSpec spec{};
  constexpr uint64_t kSpec = kHeaderOffset + offsetof(MapHeader, spec);
  return ::pread(fd, &spec, sizeof spec, static_cast<off_t>(kSpec)) == sizeof spec && ends_with_users(spec);
}

void release_all_fields(Map& map) {
  const FieldGaps gaps(map.spec().fields);
  const Lease lease(map.machine());
  (void)map.for_each(lease, [&gaps](const void*, void* value) {
    gaps.release(value);
    return Visit::kContinue;
  });
}

}  // namespace

void map_lost_its_users(Process& process, uint32_t id) {
  {
    const Result<FileDescriptor> unused = process.instance->open_unused_map(id, ends_with_its_users);
    if (!unused) return;
    const Result<std::shared_ptr<Map>> map = process.descriptors.map_of(unused->get());
    if (!map) return;
    if ((*map)->spec().fields.any_owner()) release_all_fields(**map);
    const MapKind* kind = find_map_kind((*map)->spec().type);
    if (const ReferenceKind* references = find_reference_kind(kind->values); references != nullptr)
      (void)ReferenceStore(process, **map, *references).clear();
  }
  // What was in it may have been all that kept the map.
  process.instance->collect(ObjectKind::kMap, id);
}

}  // namespace skep
