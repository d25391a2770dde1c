// SPDX-License-Identifier: Apache-2.0
// How types look in the log, in the shape that users of btf_log_buf know.
#include <string_view>

#include "btf/btf_checker.h"

namespace skep {
namespace {

constexpr const char* kKindNames[] = {"UNKNOWN", "INT",     "PTR",      "ARRAY",    "STRUCT",   "UNION", "ENUM",
                                      "FWD",     "TYPEDEF", "VOLATILE", "CONST",    "RESTRICT", "FUNC",  "FUNC_PROTO",
                                      "VAR",     "DATASEC", "FLOAT",    "DECL_TAG", "TYPE_TAG", "ENUM64"};

const char* or_anonymous(std::string_view name) { return name.empty() ? "(anon)" : name.data(); }

const char* encoding_name(uint32_t encoding) {
  switch (encoding) {
    case 0:
      return "(none)";
    case 1:
      return "SIGNED";
    case 2:
      return "CHAR";
    case 4:
      return "BOOL";
    default:
      return "UNKN";
  }
}

}  // namespace

void BtfChecker::describe(uint32_t id) {
  if (!log_.wanted()) return;
  log_.print("[%u] %s %s", id, kKindNames[static_cast<size_t>(btf_->kind_of(id))], or_anonymous(btf_->name(id)));
  describe_details(id);
}

void BtfChecker::describe_details(uint32_t id) {
  const uint32_t word = btf_->size_or_type(id), vlen = btf_->vlen(id), data = btf_->extra(id, 0);
  switch (btf_->kind_of(id)) {
    case BtfKind::kInt:
      log_.print(" size=%u bits_offset=%u nr_bits=%u encoding=%s", word, (data >> 16) & 0xff, data & 0xff,
                 encoding_name(data >> 24));
      break;
    case BtfKind::kArray:
      log_.print(" type_id=%u index_type_id=%u nr_elems=%u", data, btf_->extra(id, 1), btf_->extra(id, 2));
      break;
    case BtfKind::kStruct:
    case BtfKind::kUnion:
    case BtfKind::kEnum:
    case BtfKind::kEnum64:
    case BtfKind::kDatasec:
      log_.print(" size=%u vlen=%u", word, vlen);
      break;
    case BtfKind::kFwd:
      log_.print(" %s", btf_->kind_flag(id) ? "union" : "struct");
      break;
    case BtfKind::kVar:
      log_.print(" type_id=%u linkage=%u", word, data);
      break;
    case BtfKind::kFloat:
      log_.print(" size=%u", word);
      break;
    case BtfKind::kDeclTag:
      log_.print(" type=%u component_idx=%d", word, static_cast<int32_t>(data));
      break;
    case BtfKind::kFuncProto:
      log_.print(" return=%u args=(", word);
      for (uint32_t i = 0; i < vlen; ++i) {
        const BtfParameter parameter = btf_->parameter(id, i);
        if (i + 1 == vlen && parameter.type == 0) {
          log_.print("%svararg", i == 0 ? "" : ", ");
        } else {
          log_.print("%s%u %s", i == 0 ? "" : ", ", parameter.type,
                     or_anonymous(btf_->string_at(parameter.name_offset)));
        }
      }
      log_.print(")");
      break;
    default:
      log_.print(" type_id=%u", word);
  }
}

void BtfChecker::describe_member(uint32_t id, uint32_t index) {
  if (!log_.wanted()) return;
  if (btf_->kind_of(id) == BtfKind::kDatasec) {
    const BtfSectionVariable variable = btf_->section_variable(id, index);
    log_.print("\t type_id=%u offset=%u size=%u", variable.type, variable.offset, variable.size);
    return;
  }
  const BtfMember member = btf_->member(id, index);
  log_.print("\t%s type_id=%u", or_anonymous(member.name), member.type);
  if (btf_->kind_flag(id)) log_.print(" bitfield_size=%u", member.bitfield_bits);
  log_.print(" bits_offset=%u", member.bit_offset);
}

std::unexpected<Errno> BtfChecker::reject(uint32_t id, const char* why, int error) {
  describe(id);
  log_.print(" %s\n", why);
  return fail(error);
}

std::unexpected<Errno> BtfChecker::reject_member(uint32_t id, uint32_t index, const char* why) {
  describe_member(id, index);
  log_.print(" %s\n", why);
  return fail(EINVAL);
}

}  // namespace skep
