// SPDX-License-Identifier: Apache-2.0
// Pass 3, the checks that need the types a type refers to: members, function prototypes, the order of type tags.
#include <algorithm>

#include "btf/btf_checker.h"

namespace skep {
namespace {
constexpr uint32_t kMaxIntBits = 128;
constexpr uint32_t kEnumBits = 32;
}  // namespace

Status BtfChecker::check_member(uint32_t struct_id, uint32_t index) {
  const uint64_t struct_size = btf_->size_or_type(struct_id);
  const BtfMember member = btf_->member(struct_id, index);
  const uint32_t type = btf_->skip_modifiers(member.type);
  const bool packed = btf_->kind_flag(struct_id);
  const auto bad = [&](const char* why) { return reject_member(struct_id, index, why); };
  uint64_t bit = member.bit_offset, bits;
  switch (btf_->kind_of(type)) {
    case BtfKind::kInt: {
      const uint32_t data = btf_->extra(type, 0);
      bits = data & 0xff;
      if (packed) {
        if (!is_regular_integer(type)) return bad("Invalid member base type");
        if (member.bitfield_bits > bits) return bad("Invalid member bitfield_size");
        if (member.bitfield_bits != 0) {
          bits = member.bitfield_bits;
        } else if (bit % 8 != 0) {
          return bad("Invalid member offset");
        }
      } else {
        bit += (data >> 16) & 0xff;
        if (bit > UINT32_MAX) return bad("bits_offset exceeds U32_MAX");
      }
      if (bits + bit % 8 > kMaxIntBits) return bad("nr_copy_bits exceeds 128");
      if ((bit + bits + 7) / 8 > struct_size) return bad("Member exceeds struct_size");
      return {};
    }
    case BtfKind::kEnum:
    case BtfKind::kEnum64:
      if (packed) {
        bits = member.bitfield_bits;
        if (bits == 0) {
          if (bit % 8 != 0) return bad("Invalid member offset");
          bits = kEnumBits;
        } else if (bits > kEnumBits) {
          return bad("Invalid member bitfield_size");
        }
        if ((bit + bits + 7) / 8 > struct_size) return bad("Member exceeds struct_size");
        return {};
      }
      break;
    case BtfKind::kFloat: {
      if (packed && member.bitfield_bits != 0) return bad("Invalid member bitfield_size");
      const uint64_t align = std::min<uint64_t>(8, btf_->size_or_type(type));
      if (bit % (align * 8) != 0) return bad("Member is not properly aligned");
      break;
    }
    case BtfKind::kPtr:
    case BtfKind::kArray:
    case BtfKind::kStruct:
    case BtfKind::kUnion:
      break;
    default:
      return bad("Unsupported check_member");
  }
  if (packed && member.bitfield_bits != 0) return bad("Invalid member bitfield_size");
  if (bit % 8 != 0) return bad("Member is not byte aligned");
  const Result<uint64_t> size = btf_->size_of(type);
  if (!size || bit / 8 + *size > struct_size) return bad("Member exceeds struct_size");
  return {};
}

Status BtfChecker::check_function_type(uint32_t id) {
  const uint32_t prototype = btf_->size_or_type(id);
  if (!exists(prototype) || btf_->kind_of(prototype) != BtfKind::kFuncProto) return reject(id, "Invalid type_id");
  for (uint32_t i = 0; i < btf_->vlen(prototype); ++i) {
    const BtfParameter parameter = btf_->parameter(prototype, i);
    if (parameter.name_offset == 0 && parameter.type != 0) {
      log_.print("[%u] FUNC %s Invalid arg#%u\n", id, btf_->name(id).data(), i + 1);
      return fail(EINVAL);
    }
  }
  return {};
}

Status BtfChecker::check_prototype(uint32_t id) {
  const auto usable = [this](uint32_t type) -> Status {
    if (!exists(type) || is_declaration(type)) return fail(EINVAL);
    const BtfKind kind = btf_->kind_of(type);
    if ((is_modifier(kind) || is_struct_or_union(kind) || kind == BtfKind::kPtr || kind == BtfKind::kArray ||
         kind == BtfKind::kFunc) &&
        visited_[type] == 0) {
      if (Status status = resolve(type); !status) return status;
    }
    return has_size(type) ? Status{} : fail(EINVAL);
  };
  if (const uint32_t returned = btf_->size_or_type(id); returned != 0) {
    if (Status status = usable(returned); !status) {
      if (status.error() == Errno{EINVAL}) return reject(id, "Invalid return type");
      return status;
    }
  }
  uint32_t count = btf_->vlen(id);
  if (count > 0 && btf_->parameter(id, count - 1).type == 0) {
    --count;
    if (btf_->parameter(id, count).name_offset != 0) return reject(id, "Invalid arg (vararg with a name)");
  }
  for (uint32_t i = 0; i < count; ++i) {
    const BtfParameter parameter = btf_->parameter(id, i);
    if (parameter.name_offset != 0 && !is_identifier(parameter.name_offset)) return reject(id, "Invalid arg name");
    if (Status status = usable(parameter.type); !status) {
      if (status.error() == Errno{EINVAL}) return reject(id, "Invalid arg");
      return status;
    }
  }
  return {};
}

Status BtfChecker::check_tag_order() {
  for (uint32_t id = 1; id < btf_->type_count(); ++id) {
    BtfKind kind = btf_->kind_of(id);
    bool in_tags = kind == BtfKind::kTypeTag;
    uint32_t at = id;
    for (uint32_t length = 0; is_modifier(kind); ++length) {
      if (length == Btf::kMaxDepth) return reject(id, "Max chain length or cycle detected", ELOOP);
      if (kind != BtfKind::kTypeTag) {
        in_tags = false;
      } else if (!in_tags) {
        return reject(id, "Type tags don't precede modifiers");
      }
      at = btf_->size_or_type(at);
      kind = btf_->kind_of(at);
    }
  }
  return {};
}

}  // namespace skep
