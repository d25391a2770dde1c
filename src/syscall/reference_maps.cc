// SPDX-License-Identifier: Apache-2.0
// Maps in maps: the values of ARRAY_OF_MAPS and HASH_OF_MAPS.
#include "syscall/reference_maps.h"

#include <fcntl.h>

#include <cstring>

#include "syscall/reference_kinds.h"

namespace skep {
namespace {

/// Whether maps of that kind can be inner maps at all (the kernel's map_meta_equal).
bool can_be_inner(uint32_t type) {
  switch (type) {
    case BPF_MAP_TYPE_PROG_ARRAY:
    case BPF_MAP_TYPE_CGROUP_STORAGE:
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE:
    case BPF_MAP_TYPE_STRUCT_OPS:
    case BPF_MAP_TYPE_INSN_ARRAY:
      return false;
    default:
      return true;
  }
}

bool fits(const InnerTemplate& wanted, const MapSpec& inner) {
  if (inner.type != wanted.type || inner.key_size != wanted.key_size || inner.value_size != wanted.value_size ||
      inner.flags != wanted.flags || inner.fields != wanted.fields)
    return false;
  // A program's array lookups are compiled with the template's bounds, unless it was made for this purpose.
  return inner.type != BPF_MAP_TYPE_ARRAY || (inner.flags & BPF_F_INNER_MAP) != 0 ||
         inner.max_entries == wanted.max_entries;
}

Result<Reference> resolve(Process& process, const OpenObject& map, const void* value) {
  uint32_t fd;
  std::memcpy(&fd, value, sizeof fd);
  const auto inner = process.descriptors.share(static_cast<int>(fd), ObjectKind::kMap);
  if (!inner) return std::unexpected(inner.error());
  if (!fits(map.map->header().inner, (*inner)->map->spec())) return fail(EINVAL);
  // A reference of our own: the client may close its descriptor meanwhile.
  Result<FileDescriptor> file = process.instance->open_by_id(ObjectKind::kMap, (*inner)->id, O_RDONLY);
  if (!file) return std::unexpected(file.error());
  return Reference{
      .word = (*inner)->id, .held = {.kind = ObjectKind::kMap, .id = (*inner)->id}, .file = *std::move(file)};
}

Status show(Process&, const OpenObject&, uint64_t word, void* value) {
  const auto id = static_cast<uint32_t>(word);
  std::memcpy(value, &id, sizeof id);
  return {};
}

HeldObject held(uint64_t word) { return {.kind = ObjectKind::kMap, .id = static_cast<uint32_t>(word)}; }

}  // namespace

constinit const ReferenceKind kMapReferences = {
    .meaning = ValueMeaning::kMap, .resolve = resolve, .show = show, .held = held};

Result<InnerTemplate> inner_template(Caller& caller) {
  const auto inner = caller.descriptors().share(static_cast<int>(caller.attr.inner_map_fd), ObjectKind::kMap);
  if (!inner) return std::unexpected(inner.error());
  const MapSpec& spec = (*inner)->map->spec();
  if ((*inner)->map->header().inner.type != 0) return fail(EINVAL);
  if (!can_be_inner(spec.type)) return fail(kEnotsupp);
  return InnerTemplate{.type = spec.type,
                       .key_size = spec.key_size,
                       .value_size = spec.value_size,
                       .max_entries = spec.max_entries,
                       .flags = spec.flags,
                       .fields = spec.fields};
}

}  // namespace skep
