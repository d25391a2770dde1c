// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "btf/btf.h"
#include "btf/verifier_log.h"

namespace skep {

[[nodiscard]] constexpr bool is_modifier(BtfKind kind) {
  return kind == BtfKind::kTypedef || kind == BtfKind::kVolatile || kind == BtfKind::kConst ||
         kind == BtfKind::kRestrict || kind == BtfKind::kTypeTag;
}
[[nodiscard]] constexpr bool is_struct_or_union(BtfKind kind) {
  return kind == BtfKind::kStruct || kind == BtfKind::kUnion;
}

/// Checks raw BTF in four passes, each of which may rely on what the one before has found:
///   1. header and sections   (btf_sections.cc)    every later access lies inside a section
///   2. each type by itself   (btf_type_checks.cc) lengths, names, flags, ranges; every record lies inside its section
///   3. types among types     (btf_resolution.cc)  ids exist, no cycle without a pointer, sizes fit
///   4. special fields        (btf_special_fields.cc)
/// One use: check() consumes it.
class BtfChecker {
 public:
  BtfChecker(std::span<const std::byte> raw, VerifierLog& log) : raw_(raw), log_(log) {}
  Result<std::shared_ptr<const Btf>> check();

 private:
  // Sections.
  Status check_header();
  Status check_sections(uint32_t header_size);
  Status check_strings();
  // Types by themselves.
  Status collect_types();
  Status check_type(uint32_t id, uint32_t left);
  Status check_integer(uint32_t id);
  Status check_reference(uint32_t id);
  Status check_array(uint32_t id);
  Status check_members(uint32_t id);
  Status check_enum(uint32_t id);
  Status check_function(uint32_t id);
  Status check_section_type(uint32_t id);
  [[nodiscard]] bool is_identifier(uint32_t name_offset) const;
  [[nodiscard]] bool is_section_name(uint32_t name_offset) const;
  // Types among types.
  enum class Mode { kUndecided, kPointer, kContainer };
  struct Frame {
    uint32_t id;
    uint32_t next;  // member to go on with
  };
  Status resolve_all();
  Status resolve(uint32_t id);
  /// One step of the type on top of the stack: either pushes what must be resolved before (kPushed), or is done.
  enum class Step { kPushed, kDone };
  Result<Step> step(Frame& frame);
  Result<Step> step_reference(uint32_t id);
  Result<Step> step_array(uint32_t id);
  Result<Step> step_members(Frame& frame);
  Result<Step> step_section(Frame& frame);
  Result<Step> step_tag(uint32_t id);
  /// Whether `id` must be resolved before its user; pushes it then.
  Result<bool> push_if_needed(uint32_t id);
  Status push(uint32_t id);
  Status check_member(uint32_t struct_id, uint32_t index);
  Status check_prototype(uint32_t id);
  Status check_function_type(uint32_t id);
  Status check_tag_order();
  [[nodiscard]] bool has_size(uint32_t id) const { return btf_->size_of(id).has_value(); }
  [[nodiscard]] bool exists(uint32_t id) const { return id < btf_->type_count(); }
  /// Kinds that stand for a declaration and that no type may refer to.
  [[nodiscard]] bool is_declaration(uint32_t id) const;
  [[nodiscard]] bool is_regular_integer(uint32_t id) const;
  // The log.
  void describe(uint32_t id);
  void describe_details(uint32_t id);
  void describe_member(uint32_t id, uint32_t index);
  std::unexpected<Errno> reject(uint32_t id, const char* why, int error = EINVAL);
  std::unexpected<Errno> reject_member(uint32_t id, uint32_t index, const char* why);

  std::span<const std::byte> raw_;
  VerifierLog& log_;
  std::shared_ptr<Btf> btf_;
  uint32_t types_offset_ = 0, types_size_ = 0;
  std::vector<uint8_t> visited_;  // 0: not, 1: on the stack, 2: resolved
  std::vector<Frame> stack_;
  Mode mode_ = Mode::kUndecided;
};

}  // namespace skep
