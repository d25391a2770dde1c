// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "object/digest.h"
#include "syscall/commands.h"
#include "syscall/map_access.h"

namespace skep {
namespace {

/// The SHA-256 of a frozen array's values, for a client that wants to sign or check them.
Status write_hash(const OpenObject& object, const bpf_map_info& info) {
  if (object.type != BPF_MAP_TYPE_ARRAY) return fail(EINVAL);
  if (info.hash_size != 32) return fail(EINVAL);
  if (!is_frozen(object)) return fail(EPERM);
  const MapSpec& spec = object.map->spec();
  const uint64_t size = round_up(spec.value_size, 8) * spec.max_entries;
  const auto digest = sha256({object.map->segments().user.data(), size});
  return write_user(info.hash, digest.data(), digest.size()) ? Status{} : fail(EFAULT);
}

}  // namespace

Answer map_info(Caller& caller, const OpenObject& object) {
  // The structure is 104 bytes long for alignment; its last four are no field and must be zero like any tail.
  constexpr uint32_t kFieldsEnd = 100;
  static_assert(offsetof(bpf_map_info, hash_size) + sizeof(bpf_map_info::hash_size) == kFieldsEnd);
  const auto& request = caller.attr.info;
  if (const auto size = check_info_size(request.info, request.info_len, kFieldsEnd); !size)
    return std::unexpected(size.error());
  const auto size = std::min<uint32_t>(request.info_len, sizeof(bpf_map_info));
  bpf_map_info given{};
  if (!read_user(&given, request.info, size)) return fail(EFAULT);

  const MapHeader& header = object.map->header();
  // What does not apply to this map (device, network namespace, BTF it has not) keeps what the client put there.
  bpf_map_info info = given;
  info.type = header.spec.type;
  info.id = object.id;
  info.key_size = header.spec.key_size;
  info.value_size = header.spec.value_size;
  info.max_entries = header.spec.max_entries;
  info.map_flags = shown_flags(header.spec);
  info.map_extra = header.spec.extra;
  std::memcpy(info.name, header.name, sizeof info.name);
  if (header.btf_id != 0) {
    info.btf_id = header.btf_id;
    info.btf_key_type_id = header.btf_key_type;
    info.btf_value_type_id = header.btf_value_type;
  }
  info.btf_vmlinux_value_type_id = 0;
  if (given.hash != 0) {
    if (const Status hashed = write_hash(object, given); !hashed) return std::unexpected(hashed.error());
  } else if (given.hash_size != 0) {
    return fail(EINVAL);
  }
  return finish_info(caller, &info, size);
}

}  // namespace skep
