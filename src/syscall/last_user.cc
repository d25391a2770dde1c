// SPDX-License-Identifier: Apache-2.0
#include "syscall/last_user.h"

#include "syscall/reference_store.h"

namespace skep {

void map_lost_its_users(Process& process, uint32_t id) {
  {
    const Result<FileDescriptor> unused = process.instance->open_unused_map(id);
    if (!unused) return;
    const Result<std::shared_ptr<Map>> map = process.descriptors.map_of(unused->get());
    if (!map || !ends_with_users((*map)->spec().type)) return;
    const MapKind* kind = find_map_kind((*map)->spec().type);
    (void)ReferenceStore(process, **map, *find_reference_kind(kind->values)).clear();
  }
  // What was in it may have been all that kept the map.
  process.instance->collect(ObjectKind::kMap, id);
}

}  // namespace skep
