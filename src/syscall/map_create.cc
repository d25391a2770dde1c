// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <net/if.h>
#include <unistd.h>

#include "machine/numa_node.h"
#include "syscall/commands.h"
#include "syscall/map_access.h"
#include "syscall/map_btf.h"
#include "syscall/object_name_check.h"
#include "syscall/reference_maps.h"
#include "syscall/token.h"

namespace skep {
namespace {

constexpr uint32_t kAccessFlags = BPF_F_RDONLY | BPF_F_WRONLY;

bool node_exists(uint32_t node) { return node == UINT32_MAX || numa_node_exists(node); }  // NUMA_NO_NODE

/// The kinds that look at the value's size before the flags, and at all of these themselves.
bool size_comes_first(uint32_t type) {
  return type == BPF_MAP_TYPE_BLOOM_FILTER || type == BPF_MAP_TYPE_CGROUP_STORAGE ||
         type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

bool device_exists(uint32_t ifindex) {
  char name[IF_NAMESIZE];
  return if_indextoname(ifindex, name) != nullptr;
}

/// The checks that come before the kind's own.
Status check_attributes(const bpf_attr& attr) {
  const bool has_types = attr.btf_key_type_id != 0 || attr.btf_value_type_id != 0;
  if (attr.btf_vmlinux_value_type_id != 0 && (attr.map_type != BPF_MAP_TYPE_STRUCT_OPS || has_types))
    return fail(EINVAL);
  if (attr.btf_key_type_id != 0 && attr.btf_value_type_id == 0) return fail(EINVAL);
  const bool takes_extra = attr.map_type == BPF_MAP_TYPE_BLOOM_FILTER || attr.map_type == BPF_MAP_TYPE_ARENA ||
                           attr.map_type == BPF_MAP_TYPE_RHASH;
  if (attr.map_extra != 0 && !takes_extra) return fail(EINVAL);
  if ((attr.map_flags & kAccessFlags) == kAccessFlags) return fail(EINVAL);
  if ((attr.map_flags & BPF_F_NUMA_NODE) != 0 && !node_exists(attr.numa_node)) return fail(EINVAL);
  return {};
}

bool goes_both_ways(const MapSpec& spec) {
  constexpr uint32_t kProgramAccessFlags = BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
  return (spec.flags & kProgramAccessFlags) == kProgramAccessFlags && !size_comes_first(spec.type);
}

Status check_kind(const MapKind& kind, const MapSpec& spec, const MachineShape& shape) {
  if (kind.check == nullptr) return {};
  return goes_both_ways(spec) ? fail(EINVAL) : kind.check(spec, shape);
}

Status check_kind_late(const MapKind& kind, const MapSpec& spec, const MachineShape& shape) {
  if (kind.check_late == nullptr) return {};
  return kind.check == nullptr && goes_both_ways(spec) ? fail(EINVAL) : kind.check_late(spec, shape);
}

MapSpec spec_of(const bpf_attr& attr) {
  MapSpec spec{};
  spec.type = attr.map_type;
  spec.key_size = attr.key_size;
  spec.value_size = attr.value_size;
  spec.max_entries = attr.max_entries;
  spec.flags = attr.map_flags & ~uint32_t{BPF_F_TOKEN_FD};
  spec.numa_node = (attr.map_flags & BPF_F_NUMA_NODE) != 0 ? attr.numa_node : UINT32_MAX;
  spec.extra = attr.map_extra;
  return spec;
}

/// The types of key and value; the BTF object that they come from, which the map then keeps alive.
Result<std::shared_ptr<const OpenObject>> check_types(Caller& caller, MapCreation& creation) {
  const bpf_attr& attr = caller.attr;
  if (attr.btf_key_type_id == 0 && attr.btf_value_type_id == 0) return nullptr;
  Result<std::shared_ptr<const OpenObject>> btf =
      caller.descriptors().share(static_cast<int>(attr.btf_fd), ObjectKind::kBtf);
  if (!btf) return btf;
  const Result<ValueFields> fields =
      check_map_btf(btf_of(**btf), attr.btf_key_type_id, attr.btf_value_type_id, creation.spec);
  if (!fields) return std::unexpected(fields.error());
  creation.spec.fields = *fields;
  creation.btf_id = (*btf)->id;
  creation.btf_key_type = attr.btf_key_type_id;
  creation.btf_value_type = attr.btf_value_type_id;
  return btf;
}

struct NewMap {
  FileDescriptor fd;
  std::unique_ptr<Map> map;
};

/// The map's file, with everything in it but its id. When the file system is full the dead go first.
Result<NewMap> make_map(Caller& caller, const MapCreation& creation) {
  for (bool collected = false;; collected = true) {
    Result<FileDescriptor> fd = caller.instance().make_file(ObjectKind::kMap);
    if (!fd) return std::unexpected(fd.error());
    // The windows come from a description of their own: the client's descriptor alone is the reference.
    const Result<FileDescriptor> own = Instance::reopen(fd->get(), O_RDWR);
    if (!own) return std::unexpected(own.error());
    Result<std::unique_ptr<Map>> map = create_map(own->get(), creation, caller.machine());
    if (map) return NewMap{*std::move(fd), *std::move(map)};
    if (collected || to_int(map.error()) != ENOMEM) return std::unexpected(map.error());
    caller.instance().collect_dead();
  }
}

}  // namespace

Answer map_create(Caller& caller) {
  const bpf_attr& attr = caller.attr;
  if (const Status status = check_attributes(attr); !status) return std::unexpected(status.error());
  MapCreation creation;
  creation.spec = spec_of(attr);
  const MapKind* kind = find_map_kind(attr.map_type);
  if (kind == nullptr) return fail(EINVAL);
  if (kind->needs_types && (attr.btf_key_type_id == 0 || attr.btf_value_type_id == 0)) return fail(EINVAL);
  const MachineShape shape = caller.machine().shape();
  if (const Status status = check_kind(*kind, creation.spec, shape); !status) return std::unexpected(status.error());
  if ((attr.map_flags & BPF_F_TOKEN_FD) != 0) return fail_as_token(attr.map_token_fd);
  if (attr.map_ifindex != 0) {
    const bool offloadable = attr.map_type == BPF_MAP_TYPE_HASH || attr.map_type == BPF_MAP_TYPE_ARRAY;
    return fail(offloadable && device_exists(attr.map_ifindex) ? EOPNOTSUPP : EINVAL);
  }
  if (const Status status = check_kind_late(*kind, creation.spec, shape); !status)
    return std::unexpected(status.error());
  if (kind->values == ValueMeaning::kMap) {
    const Result<InnerTemplate> inner = inner_template(caller);
    if (!inner) return std::unexpected(inner.error());
    creation.inner = *inner;
  }
  MapSpec sized = creation.spec;
  if (const Result<MapLayout> layout = kind->layout(sized, shape); !layout) return std::unexpected(layout.error());
  if (const Status status = copy_object_name(creation.name, attr.map_name); !status)
    return std::unexpected(status.error());
  const Result<std::shared_ptr<const OpenObject>> btf = check_types(caller, creation);
  if (!btf) return std::unexpected(btf.error());
  if (attr.excl_prog_hash != 0 || attr.excl_prog_hash_size != 0) return fail(EINVAL);

  Result<NewMap> made = make_map(caller, creation);
  if (!made) return std::unexpected(made.error());
  Status held;
  const Result<uint32_t> id = caller.instance().publish(ObjectKind::kMap, made->fd.get(), [&](uint32_t given) {
    made->map->header().file.id = given;
    if (*btf == nullptr) return;
    const int btf_fd = static_cast<int>(attr.btf_fd);
    held = caller.instance().hold(ObjectKind::kMap, given, ObjectKind::kBtf, (*btf)->id, btf_fd);
  });
  if (!id) return std::unexpected(id.error());
  if (!held) {
    made->fd = FileDescriptor();
    caller.instance().collect(ObjectKind::kMap, *id);
    return std::unexpected(held.error());
  }
  if ((attr.map_flags & kAccessFlags) != 0) {
    const int mode = (attr.map_flags & BPF_F_RDONLY) != 0 ? O_RDONLY : O_WRONLY;
    Result<FileDescriptor> limited = caller.instance().open_by_id(ObjectKind::kMap, *id, mode);
    if (!limited) return std::unexpected(limited.error());
    made->fd = *std::move(limited);
  }
  return caller.descriptors().install(std::move(made->fd), std::move(made->map));
}

}  // namespace skep
