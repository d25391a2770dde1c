// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <skep/abi.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "capi/handles.h"
#include "capi/storage_types.h"

namespace skep {
namespace {

bool valid_name(const char (&name)[16]) {
  const auto* end = static_cast<const char*>(std::memchr(name, 0, sizeof(name)));
  return end != nullptr &&
         std::all_of(name, end, [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.'; });
}

bool is_per_cpu(uint32_t type) {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

/// map_extra of callers whose structure has it.
uint64_t extra_of(const skep_map_attr& attr) {
  return attr.size >= offsetof(skep_map_attr, extra) + sizeof attr.extra ? attr.extra : 0;
}

skep_map* make_handle(const skep_instance* instance, std::unique_ptr<Map> map, bool writable) {
  const uint32_t id = map->header().file.id;
  const bool per_cpu = is_per_cpu(map->spec().type);
  const bool owned = find_map_kind(map->spec().type)->values == ValueMeaning::kOwned;
  auto* const storage = owned ? static_cast<StorageMap*>(map.get()) : nullptr;
  return new skep_map{instance->instance, std::move(map), storage, id, writable, per_cpu};
}

constexpr const char* kOnlyBpf = "the values of such a map stand for objects: it is used by bpf(2) and by programs";

bool has_face(const MapKind& kind) {
  return kind.values == ValueMeaning::kBytes || kind.values == ValueMeaning::kOwned;
}

/// What BPF_MAP_CREATE checks before it asks the kind.
Result<MapCreation> check_attr(const skep_map_attr& attr) {
  constexpr uint32_t kProgramAccess = BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
  if (attr.size < offsetof(skep_map_attr, id)) return fail_because(EINVAL, "skep_map_attr::size is too small");
  if (!valid_name(attr.name)) return fail_because(EINVAL, "a map's name has at most 15 characters of [A-Za-z0-9_.]");
  if ((attr.flags & (BPF_F_RDONLY | BPF_F_WRONLY)) != 0) {
    return fail_because(EINVAL, "BPF_F_RDONLY and BPF_F_WRONLY belong to descriptors");
  }
  if ((attr.flags & kProgramAccess) == kProgramAccess) {
    return fail_because(EINVAL, "BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other");
  }
  const MapKind* kind = find_map_kind(attr.type);
  if (kind != nullptr && !has_face(*kind)) return fail_because(EOPNOTSUPP, kOnlyBpf);
  const bool takes_extra = attr.type == BPF_MAP_TYPE_BLOOM_FILTER || attr.type == BPF_MAP_TYPE_RHASH;
  if (extra_of(attr) != 0 && !takes_extra)
    return fail_because(EINVAL, "such a map has no use for skep_map_attr::extra");
  MapCreation creation;
  creation.spec = {};
  creation.spec.type = attr.type;
  creation.spec.key_size = attr.key_size;
  creation.spec.value_size = attr.value_size;
  creation.spec.max_entries = attr.max_entries;
  creation.spec.flags = attr.flags;
  creation.spec.extra = extra_of(attr);
  std::memcpy(creation.name, attr.name, std::strlen(attr.name));
  return creation;
}

/// Gives a map whose kind asks for types those of its sizes; `file` keeps them until the map holds them.
Status describe_values(Instance& instance, MapCreation& creation, FileDescriptor& file) {
  const MapKind* const kind = find_map_kind(creation.spec.type);
  if (kind == nullptr || !kind->needs_types) return {};
  if (auto status = kind->check_all(creation.spec, instance.machine().shape()); !status) return status;
  auto types = make_storage_types(instance, creation.spec.value_size);
  if (!types) return std::unexpected(types.error());
  creation.btf_id = types->id;
  creation.btf_key_type = types->key;
  creation.btf_value_type = types->value;
  file = std::move(types->file);
  return {};
}

/// Maps what `file` refers to; the descriptor is closed on return and the mapping keeps its reference.
int open_file(const skep_instance* instance, const Result<FileDescriptor>& file, int access, skep_map** out) {
  if (!file) return -to_int(file.error());
  const bool writable = access == SKEP_READ_WRITE;
  auto map = open_map(file->get(), writable ? Access::kReadWrite : Access::kReadOnly, instance->instance->machine());
  if (!map) return -to_int(map.error());
  if (!has_face(*find_map_kind((*map)->spec().type))) return -to_int(fail_because(EOPNOTSUPP, kOnlyBpf).error());
  *out = make_handle(instance, std::move(*map), writable);
  return 0;
}

int open_flags(int access) { return access == SKEP_READ_WRITE ? O_RDWR : O_RDONLY; }

bool valid_access(int access) { return access == SKEP_READ_WRITE || access == SKEP_READ_ONLY; }

}  // namespace
}  // namespace skep

using skep::guarded;

int skep_instance_open(const char* directory, skep_instance** out) {
  return guarded([&] {
    skep::clear_last_error();
    auto instance = skep::Instance::open(directory != nullptr ? directory : skep::Instance::default_directory());
    if (!instance) return -skep::to_int(instance.error());
    *out = new skep_instance(std::move(*instance));
    return 0;
  });
}

skep_instance* skep_instance_share(skep_instance* instance) {
  instance->uses.fetch_add(1, std::memory_order_relaxed);
  return instance;
}

void skep_instance_close(skep_instance* instance) {
  // The last one sees what all the others did with it.
  if (instance != nullptr && instance->uses.fetch_sub(1, std::memory_order_acq_rel) == 1) delete instance;
}

uint32_t skep_instance_cpus(const skep_instance* instance) { return instance->instance->machine().cpus(); }

int skep_map_create(skep_instance* instance, const skep_map_attr* attr, skep_map** out) {
  return guarded([&] {
    skep::clear_last_error();
    auto creation = skep::check_attr(*attr);
    if (!creation) return -skep::to_int(creation.error());
    skep::FileDescriptor types;
    if (auto described = skep::describe_values(*instance->instance, *creation, types); !described)
      return skep::to_code(described);
    const auto file = instance->instance->make_file(skep::ObjectKind::kMap);
    if (!file) return -skep::to_int(file.error());
    auto map = skep::create_map(file->get(), *creation, instance->instance->machine());
    if (!map) return -skep::to_int(map.error());
    skep::Status held;
    const auto id = instance->instance->publish(skep::ObjectKind::kMap, file->get(), [&](uint32_t given) {
      (*map)->header().file.id = given;
      if (creation->btf_id == 0) return;
      held = instance->instance->hold(skep::ObjectKind::kMap, given, skep::ObjectKind::kBtf, creation->btf_id,
                                      types.get());
    });
    if (!id) return -skep::to_int(id.error());
    if (!held) {
      map->reset();
      instance->instance->collect(skep::ObjectKind::kMap, *id);
      return skep::to_code(held);
    }
    *out = skep::make_handle(instance, std::move(*map), true);
    return 0;
  });
}

int skep_map_open_id(skep_instance* instance, uint32_t id, int access, skep_map** out) {
  return guarded([&] {
    skep::clear_last_error();
    if (!skep::valid_access(access)) return -EINVAL;
    return skep::open_file(
        instance, instance->instance->open_by_id(skep::ObjectKind::kMap, id, skep::open_flags(access)), access, out);
  });
}

int skep_map_open_pin(skep_instance* instance, const char* path, int access, skep_map** out) {
  return guarded([&] {
    skep::clear_last_error();
    if (!skep::valid_access(access)) return -EINVAL;
    const auto resolved = instance->instance->resolve_pin_path(AT_FDCWD, path);
    if (!resolved) return -skep::to_int(resolved.error());
    return skep::open_file(instance, instance->instance->open_pin(*resolved, skep::open_flags(access)), access, out);
  });
}

int skep_map_pin(const skep_map* map, const char* path) {
  return guarded([&] {
    skep::clear_last_error();
    const auto resolved = map->instance->resolve_pin_path(AT_FDCWD, path);
    if (!resolved) return -skep::to_int(resolved.error());
    const auto file = map->instance->open_by_id(skep::ObjectKind::kMap, map->id, O_RDONLY);
    if (!file) return -skep::to_int(file.error());
    return skep::to_code(map->instance->pin(file->get(), *resolved));
  });
}

void skep_map_close(skep_map* map) {
  if (map == nullptr) return;
  const auto instance = map->instance;
  const uint32_t id = map->id;
  delete map;
  (void)guarded([&] {
    instance->collect(skep::ObjectKind::kMap, id);
    return 0;
  });
}

int skep_map_describe(const skep_map* map, skep_map_attr* attr) {
  const skep::MapHeader& header = map->map->header();
  skep_map_attr known = {};
  known.size = attr->size;
  known.type = header.spec.type;
  known.key_size = header.spec.key_size;
  known.value_size = header.spec.value_size;
  known.max_entries = header.spec.max_entries;
  known.flags = header.spec.flags;
  std::memcpy(known.name, header.name, sizeof(known.name));
  known.id = map->id;
  known.extra = header.spec.extra;
  std::memcpy(attr, &known, std::min<size_t>(attr->size, sizeof(known)));
  return 0;
}

uint64_t skep_map_value_bytes(const skep_map* map) { return map->map->user_value_size(); }
