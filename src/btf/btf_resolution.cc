// SPDX-License-Identifier: Apache-2.0
// Pass 3: types among types. A walk with a stack of its own, so that hostile BTF costs neither our stack nor time:
// each type is resolved once, and at most kMaxDepth of them are open at any moment.
#include "btf/btf_checker.h"

namespace skep {
namespace {

bool needs_resolution(BtfKind kind) {
  return is_modifier(kind) || is_struct_or_union(kind) || kind == BtfKind::kPtr || kind == BtfKind::kArray ||
         kind == BtfKind::kVar || kind == BtfKind::kFunc || kind == BtfKind::kDeclTag || kind == BtfKind::kDatasec;
}

}  // namespace

bool BtfChecker::is_declaration(uint32_t id) const {
  const BtfKind kind = btf_->kind_of(id);
  return kind == BtfKind::kVar || kind == BtfKind::kDeclTag || kind == BtfKind::kDatasec;
}

bool BtfChecker::is_regular_integer(uint32_t id) const {
  const uint32_t data = btf_->extra(id, 0), bits = data & 0xff;
  if (bits % 8 != 0 || ((data >> 16) & 0xff) != 0) return false;
  const uint32_t bytes = bits / 8;
  return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16;
}

Status BtfChecker::resolve_all() {
  visited_.assign(btf_->type_count(), 0);
  btf_->array_sizes_.assign(btf_->type_count(), 0);
  for (uint32_t id = 1; id < btf_->type_count(); ++id) {
    if (needs_resolution(btf_->kind_of(id)) && visited_[id] == 0) {
      if (Status status = resolve(id); !status) return status;
    }
    if (btf_->kind_of(id) == BtfKind::kFuncProto) {
      if (Status status = check_prototype(id); !status) return status;
    }
  }
  return {};
}

Status BtfChecker::resolve(uint32_t id) {
  mode_ = Mode::kUndecided;
  stack_.clear();
  Status status = push(id);
  while (status && !stack_.empty()) {
    Result<Step> result = step(stack_.back());
    if (!result) {
      status = std::unexpected(result.error());
    } else if (*result == Step::kDone) {
      visited_[stack_.back().id] = 2;
      stack_.pop_back();
    }
  }
  if (status) return status;
  if (status.error() == Errno{E2BIG}) return reject(id, "Exceeded max resolving depth:32", E2BIG);
  if (status.error() == Errno{EEXIST}) return reject(id, "Loop detected", EEXIST);
  return status;
}

Status BtfChecker::push(uint32_t id) {
  if (stack_.size() == Btf::kMaxDepth) return fail(E2BIG);
  if (visited_[id] != 0) return fail(EEXIST);
  visited_[id] = 1;
  stack_.push_back({id, 0});
  if (mode_ == Mode::kUndecided) {
    const BtfKind kind = btf_->kind_of(id);
    if (kind == BtfKind::kPtr) mode_ = Mode::kPointer;
    if (is_struct_or_union(kind) || kind == BtfKind::kArray) mode_ = Mode::kContainer;
  }
  return {};
}

Result<bool> BtfChecker::push_if_needed(uint32_t id) {
  const BtfKind kind = btf_->kind_of(id);
  // A pointer ends what a container contains, and a container ends what a pointer leads through: that is what lets
  // structs point at each other.
  bool sink = !needs_resolution(kind);
  if (mode_ == Mode::kPointer) sink = !is_modifier(kind) && kind != BtfKind::kPtr;
  if (mode_ == Mode::kContainer) sink = !is_modifier(kind) && kind != BtfKind::kArray && !is_struct_or_union(kind);
  if (sink || visited_[id] == 2) return false;
  if (Status status = push(id); !status) return std::unexpected(status.error());
  return true;
}

Result<BtfChecker::Step> BtfChecker::step(Frame& frame) {
  switch (btf_->kind_of(frame.id)) {
    case BtfKind::kArray:
      return step_array(frame.id);
    case BtfKind::kStruct:
    case BtfKind::kUnion:
      return step_members(frame);
    case BtfKind::kDatasec:
      return step_section(frame);
    case BtfKind::kDeclTag:
      return step_tag(frame.id);
    case BtfKind::kFunc:
      if (Status status = check_function_type(frame.id); !status) return std::unexpected(status.error());
      return Step::kDone;
    default:
      return step_reference(frame.id);
  }
}

Result<BtfChecker::Step> BtfChecker::step_reference(uint32_t id) {
  const uint32_t target = btf_->size_or_type(id);
  const BtfKind kind = btf_->kind_of(id);
  if (!exists(target) || is_declaration(target)) return reject(id, "Invalid type_id");
  Result<bool> pushed = push_if_needed(target);
  // Behind the modifiers of what a pointer or a variable refers to there may be a pointer that was skipped so far.
  if (pushed && !*pushed && (kind == BtfKind::kPtr || kind == BtfKind::kVar) && is_modifier(btf_->kind_of(target))) {
    const uint32_t behind = btf_->skip_modifiers(target);
    if (btf_->kind_of(behind) == BtfKind::kPtr) pushed = push_if_needed(behind);
  }
  if (!pushed) return std::unexpected(pushed.error());
  if (*pushed) return Step::kPushed;
  if (!has_size(target)) {
    const BtfKind behind = btf_->kind_of(btf_->skip_modifiers(target));
    // A function that was resolved before counts as its prototype; one that was not is refused.
    const bool is_function = behind == BtfKind::kFunc && (is_modifier(btf_->kind_of(target)) || visited_[target] == 2);
    const bool sizeless_is_fine =
        behind == BtfKind::kVoid || behind == BtfKind::kFwd || behind == BtfKind::kFuncProto || is_function;
    if (kind == BtfKind::kVar || !sizeless_is_fine) return reject(id, "Invalid type_id");
  }
  return Step::kDone;
}

Result<BtfChecker::Step> BtfChecker::step_array(uint32_t id) {
  const uint32_t element = btf_->extra(id, 0), index = btf_->extra(id, 1), length = btf_->extra(id, 2);
  const auto bad = [&](const char* why) { return reject(id, why); };
  const auto nosize = [&](uint32_t type) {
    const BtfKind kind = btf_->kind_of(type);
    return !exists(type) || is_declaration(type) || kind == BtfKind::kVoid || kind == BtfKind::kFwd ||
           kind == BtfKind::kFunc || kind == BtfKind::kFuncProto;
  };
  if (nosize(index)) return bad("Invalid index");
  Result<bool> pushed = push_if_needed(index);
  if (!pushed) return std::unexpected(pushed.error());
  if (*pushed) return Step::kPushed;
  const uint32_t index_type = btf_->skip_modifiers(index);
  if (btf_->kind_of(index_type) != BtfKind::kInt || !is_regular_integer(index_type)) return bad("Invalid index");
  if (nosize(element)) return bad("Invalid elem");
  pushed = push_if_needed(element);
  if (!pushed) return std::unexpected(pushed.error());
  if (*pushed) return Step::kPushed;
  const Result<uint64_t> size = btf_->size_of(element);
  if (!size) return bad("Invalid elem");
  const uint32_t element_type = btf_->skip_modifiers(element);
  if (btf_->kind_of(element_type) == BtfKind::kInt && !is_regular_integer(element_type))
    return bad("Invalid array of int");
  if (length != 0 && *size > UINT32_MAX / length) return bad("Array size overflows U32_MAX");
  btf_->array_sizes_[id] = static_cast<uint32_t>(*size * length);
  return Step::kDone;
}

Result<BtfChecker::Step> BtfChecker::step_members(Frame& frame) {
  const uint32_t id = frame.id;
  for (uint32_t i = frame.next; i < btf_->vlen(id); ++i) {
    const uint32_t type = btf_->member(id, i).type;
    const BtfKind kind = btf_->kind_of(type);
    if (!exists(type) || is_declaration(type) || kind == BtfKind::kVoid || kind == BtfKind::kFwd ||
        kind == BtfKind::kFunc || kind == BtfKind::kFuncProto) {
      return reject_member(id, i, "Invalid member");
    }
    frame.next = i;
    Result<bool> pushed = push_if_needed(type);
    if (!pushed) return std::unexpected(pushed.error());
    if (*pushed) return Step::kPushed;
    if (Status status = check_member(id, i); !status) return std::unexpected(status.error());
  }
  return Step::kDone;
}

Result<BtfChecker::Step> BtfChecker::step_section(Frame& frame) {
  const uint32_t id = frame.id;
  for (uint32_t i = frame.next; i < btf_->vlen(id); ++i) {
    const BtfSectionVariable variable = btf_->section_variable(id, i);
    if (!exists(variable.type) || btf_->kind_of(variable.type) != BtfKind::kVar) {
      return reject_member(id, i, "Not a VAR kind member");
    }
    frame.next = i;
    Result<bool> pushed = push_if_needed(variable.type);
    if (!pushed) return std::unexpected(pushed.error());
    if (*pushed) return Step::kPushed;
    const Result<uint64_t> size = btf_->size_of(btf_->size_or_type(variable.type));
    if (!size) return reject_member(id, i, "Invalid type");
    if (variable.size < *size) return reject_member(id, i, "Invalid size");
  }
  return Step::kDone;
}

Result<BtfChecker::Step> BtfChecker::step_tag(uint32_t id) {
  const uint32_t target = btf_->size_or_type(id);
  const BtfKind kind = btf_->kind_of(target);
  const auto bad = [&](const char* why) { return reject(id, why); };
  if (!exists(target) ||
      (kind != BtfKind::kFunc && kind != BtfKind::kVar && kind != BtfKind::kTypedef && !is_struct_or_union(kind))) {
    return bad("Invalid type_id");
  }
  Result<bool> pushed = push_if_needed(target);
  if (!pushed) return std::unexpected(pushed.error());
  if (*pushed) return Step::kPushed;
  const uint32_t component = btf_->extra(id, 0);
  if (component == UINT32_MAX) return Step::kDone;
  if (kind == BtfKind::kVar || kind == BtfKind::kTypedef) return bad("Invalid component_idx");
  const uint32_t limit = btf_->vlen(kind == BtfKind::kFunc ? btf_->size_or_type(target) : target);
  if (component >= limit) return bad("Invalid component_idx");
  return Step::kDone;
}

}  // namespace skep
