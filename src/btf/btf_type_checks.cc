// SPDX-License-Identifier: Apache-2.0
// Pass 2: each type by itself.
#include <algorithm>
#include <bit>

#include "btf/btf_checker.h"

namespace skep {
namespace {

constexpr uint32_t kRecordSize = 12;  // of what every type begins with
constexpr uint32_t kInfoMask = 0x9f00ffff;
constexpr uint32_t kIntMask = 0x0fffffff;
constexpr uint32_t kMaxIntBits = 128;
constexpr size_t kMaxNameLength = 512;

uint64_t bytes_after_record(BtfKind kind, uint32_t vlen) {
  switch (kind) {
    case BtfKind::kInt:
    case BtfKind::kVar:
    case BtfKind::kDeclTag:
      return 4;
    case BtfKind::kArray:
      return 12;
    case BtfKind::kEnum:
    case BtfKind::kFuncProto:
      return uint64_t{vlen} * 8;
    case BtfKind::kStruct:
    case BtfKind::kUnion:
    case BtfKind::kDatasec:
    case BtfKind::kEnum64:
      return uint64_t{vlen} * 12;
    default:
      return 0;
  }
}

// Names are Latin-1 to the kernel, whatever the locale of this process is.
bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
bool is_letter(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= 0xc0 && c != 0xd7 && c != 0xf7);
}
bool is_printable(unsigned char c) { return (c >= 0x20 && c < 0x7f) || c >= 0xa0; }

bool may_have_kind_flag(BtfKind kind) {
  switch (kind) {
    case BtfKind::kStruct:
    case BtfKind::kUnion:
    case BtfKind::kEnum:
    case BtfKind::kEnum64:
    case BtfKind::kFwd:
    case BtfKind::kDeclTag:
    case BtfKind::kTypeTag:
      return true;
    default:
      return false;
  }
}

bool may_have_vlen(BtfKind kind) {
  switch (kind) {
    case BtfKind::kStruct:
    case BtfKind::kUnion:
    case BtfKind::kEnum:
    case BtfKind::kEnum64:
    case BtfKind::kFunc:
    case BtfKind::kFuncProto:
    case BtfKind::kDatasec:
      return true;
    default:
      return false;
  }
}

}  // namespace

Status BtfChecker::collect_types() {
  if ((types_offset_ & 3) != 0) {
    log_.print("Unaligned type_off\n");
    return fail(EINVAL);
  }
  if (types_size_ == 0) {
    log_.print("No type found\n");
    return fail(EINVAL);
  }
  btf_->offsets_.assign(1, 0);
  const uint32_t end = types_offset_ + types_size_;
  for (uint32_t at = types_offset_; at < end;) {
    const uint32_t id = btf_->type_count();
    const uint32_t left = end - at;
    if (left < kRecordSize) {
      log_.print("[%u] meta_left:%u meta_needed:%u\n", id, left, kRecordSize);
      return fail(EINVAL);
    }
    if (id > Btf::kMaxTypes) {
      log_.print("Too many BTF types\n");
      return fail(E2BIG);
    }
    btf_->offsets_.push_back(at);
    if (Status status = check_type(id, left - kRecordSize); !status) return status;
    at += kRecordSize + static_cast<uint32_t>(bytes_after_record(btf_->kind_of(id), btf_->vlen(id)));
  }
  return {};
}

Status BtfChecker::check_type(uint32_t id, uint32_t left) {
  const BtfKind kind = btf_->kind_of(id);
  if ((btf_->info(id) & ~kInfoMask) != 0) {
    log_.print("[%u] Invalid btf_info:%x\n", id, btf_->info(id));
    return fail(EINVAL);
  }
  if (kind == BtfKind::kVoid || kind > BtfKind::kEnum64) {
    log_.print("[%u] Invalid kind:%u\n", id, static_cast<unsigned>(kind));
    return fail(EINVAL);
  }
  if (btf_->name_offset(id) >= btf_->strings_size_) {
    log_.print("[%u] Invalid name_offset:%u\n", id, btf_->name_offset(id));
    return fail(EINVAL);
  }
  const uint64_t needed = bytes_after_record(kind, btf_->vlen(id));
  if (left < needed) {
    log_.print("[%u] meta_left:%u meta_needed:%u\n", id, left, static_cast<unsigned>(needed));
    return fail(EINVAL);
  }
  if (!may_have_vlen(kind) && btf_->vlen(id) != 0) return reject(id, "vlen != 0");
  if (!may_have_kind_flag(kind) && btf_->kind_flag(id)) return reject(id, "Invalid btf_info kind_flag");
  switch (kind) {
    case BtfKind::kInt:
      return check_integer(id);
    case BtfKind::kArray:
      return check_array(id);
    case BtfKind::kStruct:
    case BtfKind::kUnion:
      return check_members(id);
    case BtfKind::kEnum:
    case BtfKind::kEnum64:
      return check_enum(id);
    case BtfKind::kFunc:
    case BtfKind::kFuncProto:
      return check_function(id);
    case BtfKind::kDatasec:
      return check_section_type(id);
    default:
      return check_reference(id);
  }
}

Status BtfChecker::check_integer(uint32_t id) {
  const uint32_t data = btf_->extra(id, 0);
  if ((data & ~kIntMask) != 0) {
    log_.print("[%u] Invalid int_data:%x\n", id, data);
    return fail(EINVAL);
  }
  const uint32_t bits = (data & 0xff) + ((data >> 16) & 0xff), encoding = data >> 24;
  if (bits > kMaxIntBits) return reject(id, "nr_bits exceeds 128");
  if ((bits + 7) / 8 > btf_->size_or_type(id)) return reject(id, "nr_bits exceeds type_size");
  if (!std::has_single_bit(encoding) && encoding != 0) return reject(id, "Unsupported encoding", kEnotsupp);
  if (encoding > 4) return reject(id, "Unsupported encoding", kEnotsupp);
  describe(id);
  log_.print("\n");
  return {};
}

Status BtfChecker::check_reference(uint32_t id) {
  const BtfKind kind = btf_->kind_of(id);
  const uint32_t name = btf_->name_offset(id), target = btf_->size_or_type(id);
  const char* problem = nullptr;
  switch (kind) {
    case BtfKind::kFloat:
      if (target != 2 && target != 4 && target != 8 && target != 12 && target != 16) problem = "Invalid type_size";
      break;
    case BtfKind::kFwd:
      if (target != 0) {
        problem = "type != 0";
      } else if (name == 0 || !is_identifier(name)) {
        problem = "Invalid name";
      }
      break;
    case BtfKind::kVar:
      if (name == 0 || !is_identifier(name)) {
        problem = "Invalid name";
      } else if (target == 0 || target > Btf::kMaxTypes) {
        problem = "Invalid type_id";
      } else if (btf_->extra(id, 0) > 1) {
        problem = "Linkage not supported";
      }
      break;
    case BtfKind::kDeclTag:
      if (btf_->name(id).empty()) {
        problem = "Invalid value";
      } else if (static_cast<int32_t>(btf_->extra(id, 0)) < -1) {
        problem = "Invalid component_idx";
      }
      break;
    default:
      if (target > Btf::kMaxTypes) {
        problem = "Invalid type_id";
      } else if (kind == BtfKind::kTypedef   ? name == 0 || !is_identifier(name)
                 : kind == BtfKind::kTypeTag ? btf_->name(id).empty()
                                             : name != 0) {
        problem = "Invalid name";
      }
  }
  if (problem != nullptr) return reject(id, problem);
  describe(id);
  log_.print("\n");
  return {};
}

Status BtfChecker::check_array(uint32_t id) {
  const uint32_t element = btf_->extra(id, 0), index = btf_->extra(id, 1);
  if (btf_->name_offset(id) != 0) return reject(id, "Invalid name");
  if (btf_->size_or_type(id) != 0) return reject(id, "size != 0");
  if (element == 0 || element > Btf::kMaxTypes) return reject(id, "Invalid elem");
  if (index == 0 || index > Btf::kMaxTypes) return reject(id, "Invalid index");
  describe(id);
  log_.print("\n");
  return {};
}

Status BtfChecker::check_members(uint32_t id) {
  if (btf_->name_offset(id) != 0 && !is_identifier(btf_->name_offset(id))) return reject(id, "Invalid name");
  describe(id);
  log_.print("\n");
  uint32_t last = 0;
  for (uint32_t i = 0; i < btf_->vlen(id); ++i) {
    const uint32_t name = btf_->extra(id, 3 * i);
    if (name >= btf_->strings_size_) return reject_member(id, i, "Invalid member name_offset");
    if (name != 0 && !is_identifier(name)) return reject_member(id, i, "Invalid name");
    const BtfMember member = btf_->member(id, i);
    if (member.type == 0 || member.type > Btf::kMaxTypes) return reject_member(id, i, "Invalid type_id");
    if (btf_->kind_of(id) == BtfKind::kUnion && member.bit_offset != 0) {
      return reject_member(id, i, "Invalid member bits_offset");
    }
    if (last > member.bit_offset) return reject_member(id, i, "Invalid member bits_offset");
    if ((uint64_t{member.bit_offset} + 7) / 8 > btf_->size_or_type(id)) {
      return reject_member(id, i, "Member bits_offset exceeds its struct size");
    }
    describe_member(id, i);
    log_.print("\n");
    last = member.bit_offset;
  }
  return {};
}

Status BtfChecker::check_enum(uint32_t id) {
  const uint32_t size = btf_->size_or_type(id);
  if (size > 8 || !std::has_single_bit(size)) return reject(id, "Unexpected size");
  if (btf_->name_offset(id) != 0 && !is_identifier(btf_->name_offset(id))) return reject(id, "Invalid name");
  describe(id);
  log_.print("\n");
  const bool wide = btf_->kind_of(id) == BtfKind::kEnum64;
  for (uint32_t i = 0; i < btf_->vlen(id); ++i) {
    const uint32_t at = i * (wide ? 3 : 2);
    const uint32_t name = btf_->extra(id, at);
    if (name >= btf_->strings_size_) {
      log_.print("\tInvalid name_offset:%u\n", name);
      return fail(EINVAL);
    }
    if (name == 0 || !is_identifier(name)) return reject(id, "Invalid name");
    uint64_t value = btf_->extra(id, at + 1);
    if (wide) value |= uint64_t{btf_->extra(id, at + 2)} << 32;
    if (btf_->kind_flag(id) || !wide) {
      log_.print("\t%s val=%lld\n", btf_->string_at(name).data(),
                 wide ? static_cast<long long>(value) : static_cast<long long>(static_cast<int32_t>(value)));
    } else {
      log_.print("\t%s val=%llu\n", btf_->string_at(name).data(), static_cast<unsigned long long>(value));
    }
  }
  return {};
}

Status BtfChecker::check_function(uint32_t id) {
  const uint32_t name = btf_->name_offset(id);
  if (btf_->kind_of(id) == BtfKind::kFuncProto) {
    if (name != 0) return reject(id, "Invalid name");
  } else if (name == 0 || !is_identifier(name)) {
    return reject(id, "Invalid name");
  } else if (btf_->vlen(id) > static_cast<uint32_t>(BtfLinkage::kGlobal)) {
    return reject(id, "Invalid func linkage");
  }
  describe(id);
  log_.print("\n");
  return {};
}

Status BtfChecker::check_section_type(uint32_t id) {
  const uint32_t size = btf_->size_or_type(id);
  if (size == 0) return reject(id, "size == 0");
  if (btf_->name_offset(id) == 0 || !is_section_name(btf_->name_offset(id))) return reject(id, "Invalid name");
  describe(id);
  log_.print("\n");
  uint64_t end = 0, sum = 0;
  for (uint32_t i = 0; i < btf_->vlen(id); ++i) {
    const BtfSectionVariable variable = btf_->section_variable(id, i);
    if (variable.type == 0 || variable.type > Btf::kMaxTypes) return reject_member(id, i, "Invalid type_id");
    if (variable.offset < end || variable.offset >= size) return reject_member(id, i, "Invalid offset");
    if (variable.size == 0 || variable.size > size) return reject_member(id, i, "Invalid size");
    end = uint64_t{variable.offset} + variable.size;
    if (end > size) return reject_member(id, i, "Invalid offset+size");
    describe_member(id, i);
    log_.print("\n");
    sum += variable.size;
  }
  if (size < sum) return reject(id, "Invalid btf_info size");
  return {};
}

bool BtfChecker::is_identifier(uint32_t name_offset) const {
  const std::string_view name = btf_->string_at(name_offset);
  if (name.empty() || name.size() > kMaxNameLength || is_digit(static_cast<unsigned char>(name[0]))) return false;
  return std::ranges::all_of(name, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return is_letter(byte) || is_digit(byte) || c == '_' || c == '.';
  });
}

bool BtfChecker::is_section_name(uint32_t name_offset) const {
  const std::string_view name = btf_->string_at(name_offset);
  if (name.empty() || name.size() > kMaxNameLength) return false;
  return std::ranges::all_of(name, [](char c) { return is_printable(static_cast<unsigned char>(c)); });
}

}  // namespace skep
