// SPDX-License-Identifier: Apache-2.0
#include "syscall/map_btf.h"

#include <skep/abi.h>

#include "btf/btf.h"

namespace skep {
namespace {

bool is_array(uint32_t type) { return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY; }

bool takes_no_types(uint32_t type) {
  switch (type) {
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE_HASH_OF_MAPS:
    case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
    case BPF_MAP_TYPE_CGROUP_ARRAY:
    case BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE_DEVMAP_HASH:
    case BPF_MAP_TYPE_CPUMAP:
    case BPF_MAP_TYPE_XSKMAP:
    case BPF_MAP_TYPE_SOCKMAP:
    case BPF_MAP_TYPE_SOCKHASH:
    case BPF_MAP_TYPE_STACK_TRACE:
      return true;
    default:
      return false;
  }
}

bool is_local_storage(uint32_t type) {
  return type == BPF_MAP_TYPE_TASK_STORAGE || type == BPF_MAP_TYPE_CGRP_STORAGE || type == BPF_MAP_TYPE_SK_STORAGE ||
         type == BPF_MAP_TYPE_INODE_STORAGE;
}

bool is_cgroup_storage(uint32_t type) {
  return type == BPF_MAP_TYPE_CGROUP_STORAGE || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

/// The key of an attachment is struct bpf_cgroup_storage_key, that of a cgroup an inode's number.
bool is_storage_key(const Btf& btf, uint32_t type, uint32_t size) {
  if (size == sizeof(uint64_t)) return btf.is_plain_int(type, sizeof(uint64_t));
  type = btf.skip_modifiers(type);
  if (btf.kind_of(type) != BtfKind::kStruct || btf.vlen(type) != 2) return false;
  const auto is_int_at = [&](uint32_t index, uint32_t bit_offset, uint32_t bytes) {
    const BtfMember member = btf.member(type, index);
    return member.bit_offset == bit_offset && (member.bitfield_bits == 0 || member.bitfield_bits == bytes * 8) &&
           btf.is_plain_int(member.type, bytes);
  };
  return is_int_at(0, 0, sizeof(uint64_t)) && is_int_at(1, 64, sizeof(uint32_t));
}

/// What the kinds themselves ask of the types, after the sizes have been found right.
Status check_kind(const Btf& btf, uint32_t key_type, uint32_t value_type, const MapSpec& spec) {
  if (is_array(spec.type)) {
    if (key_type == 0) {
      // The one keyless form: an ARRAY of one DATASEC, as libbpf makes it of .data, .bss and .rodata.
      const bool section = spec.type == BPF_MAP_TYPE_ARRAY && spec.max_entries == 1 &&
                           btf.kind_of(btf.skip_modifiers(value_type)) == BtfKind::kDatasec;
      return section ? Status{} : fail(EINVAL);
    }
    return btf.is_32bit_int(key_type) ? Status{} : fail(EINVAL);
  }
  if (is_local_storage(spec.type)) return btf.is_32bit_int(key_type) ? Status{} : fail(EINVAL);
  if (spec.type == BPF_MAP_TYPE_LPM_TRIE)
    return btf.kind_of(btf.skip_modifiers(key_type)) == BtfKind::kStruct ? Status{} : fail(EINVAL);
  if (spec.type == BPF_MAP_TYPE_BLOOM_FILTER) return key_type == 0 ? Status{} : fail(EINVAL);
  if (is_cgroup_storage(spec.type)) return is_storage_key(btf, key_type, spec.key_size) ? Status{} : fail(EINVAL);
  if (spec.type == BPF_MAP_TYPE_INSN_ARRAY) return fail(EINVAL);
  if (takes_no_types(spec.type)) return fail(kEnotsupp);
  return {};
}

bool has_check_of_its_own(uint32_t type) {
  return is_array(type) || type == BPF_MAP_TYPE_LPM_TRIE || type == BPF_MAP_TYPE_BLOOM_FILTER || takes_no_types(type);
}

Status check_fields(const ValueFields& fields, const MapSpec& spec) {
  if (!fields.any()) return {};
  if ((spec.flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)) != 0) return fail(EACCES);
  using Empty = ValueFields::Empty;
  const bool plain =
      spec.type == BPF_MAP_TYPE_HASH || spec.type == BPF_MAP_TYPE_RHASH || spec.type == BPF_MAP_TYPE_ARRAY;
  const bool owned = is_local_storage(spec.type);
  if (fields.any_lock() && !plain && !owned && spec.type != BPF_MAP_TYPE_CGROUP_STORAGE) return fail(EOPNOTSUPP);
  const bool shared = plain || spec.type == BPF_MAP_TYPE_LRU_HASH;
  if ((fields.any_owner() || fields.has(Empty::kRoot)) && !shared) return fail(EOPNOTSUPP);
  const bool keyed = shared || spec.type == BPF_MAP_TYPE_PERCPU_HASH || spec.type == BPF_MAP_TYPE_PERCPU_ARRAY ||
                     spec.type == BPF_MAP_TYPE_LRU_PERCPU_HASH || owned;
  if ((fields.has(Empty::kKernelPointer) || fields.has(Empty::kRefcount)) && !keyed) return fail(EOPNOTSUPP);
  return fields.has(Empty::kUserPointer) ? fail(EOPNOTSUPP) : Status{};
}

}  // namespace

Result<ValueFields> check_map_btf(const Btf& btf, uint32_t key_type, uint32_t value_type, const MapSpec& spec) {
  if (key_type != 0) {
    const Result<uint64_t> size = btf.size_of(key_type);
    if (!size || *size != spec.key_size) return fail(EINVAL);
  } else if (!has_check_of_its_own(spec.type)) {
    return fail(EINVAL);
  }
  const Result<uint64_t> size = btf.size_of(value_type);
  if (!size || *size != spec.value_size) return fail(EINVAL);
  const Result<ValueFields> fields = btf.value_fields(value_type);
  if (!fields) return fields;
  if (const Status allowed = check_fields(*fields, spec); !allowed) return std::unexpected(allowed.error());
  if (const Status kind = check_kind(btf, key_type, value_type, spec); !kind) return std::unexpected(kind.error());
  return fields;
}

}  // namespace skep
