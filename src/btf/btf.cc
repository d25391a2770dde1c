// SPDX-License-Identifier: Apache-2.0
#include "btf/btf.h"

#include <cstring>

#include "btf/btf_checker.h"
#include "btf/btf_special_fields.h"

namespace skep {

Result<std::shared_ptr<const Btf>> Btf::parse(std::span<const std::byte> raw, VerifierLog* log) {
  VerifierLog silent(0);
  return BtfChecker(raw, log != nullptr ? *log : silent).check();
}

uint32_t Btf::word(uint32_t id, uint32_t index) const {
  if (id == 0 || id >= type_count()) return 0;
  const uint64_t at = uint64_t{offsets_[id]} + uint64_t{index} * 4;
  if (at + 4 > raw_.size()) return 0;
  uint32_t value;
  std::memcpy(&value, raw_.data() + at, sizeof value);
  return value;
}

BtfKind Btf::kind_of(uint32_t id) const { return static_cast<BtfKind>((info(id) >> 24) & 0x1f); }

uint32_t Btf::vlen(uint32_t id) const { return info(id) & 0xffff; }

std::string_view Btf::string_at(uint32_t offset) const {
  if (offset >= strings_size_) return {};
  // The section ends with a zero byte, so every string inside it ends.
  return reinterpret_cast<const char*>(raw_.data()) + strings_offset_ + offset;
}

std::string_view Btf::name(uint32_t id) const {
  const std::string_view text = string_at(name_offset(id));
  return text.data() != nullptr ? text : std::string_view("");
}

uint32_t Btf::target(uint32_t id) const {
  switch (kind_of(id)) {
    case BtfKind::kArray:
      return extra(id, 0);
    case BtfKind::kPtr:
    case BtfKind::kTypedef:
    case BtfKind::kVolatile:
    case BtfKind::kConst:
    case BtfKind::kRestrict:
    case BtfKind::kFunc:
    case BtfKind::kFuncProto:
    case BtfKind::kVar:
    case BtfKind::kDeclTag:
    case BtfKind::kTypeTag:
      return size_or_type(id);
    default:
      return 0;
  }
}

uint32_t Btf::skip_modifiers(uint32_t id) const {
  for (uint32_t step = 0; step <= kMaxDepth && is_modifier(kind_of(id)); ++step) id = target(id);
  return id;
}

Result<uint64_t> Btf::size_of(uint32_t id) const {
  id = skip_modifiers(id);
  if (kind_of(id) == BtfKind::kVar) id = skip_modifiers(target(id));
  switch (kind_of(id)) {
    case BtfKind::kPtr:
      return 8;
    case BtfKind::kArray:
      return array_sizes_[id];
    case BtfKind::kInt:
    case BtfKind::kStruct:
    case BtfKind::kUnion:
    case BtfKind::kEnum:
    case BtfKind::kEnum64:
    case BtfKind::kDatasec:
    case BtfKind::kFloat:
      return size_or_type(id);
    default:
      return fail(EINVAL);
  }
}

bool Btf::is_plain_int(uint32_t id, uint32_t bytes) const {
  id = skip_modifiers(id);
  constexpr uint32_t kOffsetAndBits = 0x00ff00ff;
  return kind_of(id) == BtfKind::kInt && (extra(id, 0) & kOffsetAndBits) == bytes * 8 && size_or_type(id) == bytes;
}

Result<ValueFields> Btf::value_fields(uint32_t id) const {
  if (id >= type_count()) return fail(EINVAL);
  return fields_of_value(*this, id);
}

BtfMember Btf::member(uint32_t id, uint32_t index) const {
  if (index >= vlen(id)) return {};
  const uint32_t offset = extra(id, 3 * index + 2);
  const bool packed = kind_flag(id);
  return {.name = string_at(extra(id, 3 * index)),
          .type = extra(id, 3 * index + 1),
          .bit_offset = packed ? offset & 0xffffff : offset,
          .bitfield_bits = packed ? offset >> 24 : 0};
}

BtfSectionVariable Btf::section_variable(uint32_t id, uint32_t index) const {
  if (index >= vlen(id)) return {};
  return {.type = extra(id, 3 * index), .offset = extra(id, 3 * index + 1), .size = extra(id, 3 * index + 2)};
}

BtfParameter Btf::parameter(uint32_t id, uint32_t index) const {
  if (index >= vlen(id)) return {};
  return {.name_offset = extra(id, 2 * index), .type = extra(id, 2 * index + 1)};
}

BtfLinkage Btf::linkage(uint32_t func_id) const { return static_cast<BtfLinkage>(vlen(func_id)); }

uint32_t Btf::array_length(uint32_t id) const { return kind_of(id) == BtfKind::kArray ? extra(id, 2) : 0; }

}  // namespace skep
