// SPDX-License-Identifier: Apache-2.0
#include "btf/btf_special_fields.h"

#include <algorithm>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "btf/kernel_btf.h"

namespace skep {
namespace {

/// What a field is, as a bit of a mask.
enum Field : uint32_t {
  kSpinLock = 1U << 0,
  kResSpinLock = 1U << 1,
  kTimer = 1U << 2,
  kWq = 1U << 3,
  kTaskWork = 1U << 4,
  kListHead = 1U << 5,
  kListNode = 1U << 6,
  kRbRoot = 1U << 7,
  kRbNode = 1U << 8,
  kRefcount = 1U << 9,
  kKptr = 1U << 10,
  kUptr = 1U << 11,
};
constexpr uint32_t kLocks = kSpinLock | kResSpinLock;
constexpr uint32_t kRoots = kListHead | kRbRoot;
constexpr uint32_t kNodes = kListNode | kRbNode;
constexpr uint32_t kUnique = kLocks | kTimer | kWq | kTaskWork;
constexpr uint32_t kRepeatable = kRoots | kKptr | kUptr;
constexpr uint32_t kOfValues = kUnique | kRoots | kRefcount | kKptr | kUptr;
constexpr uint32_t kOfStructs = kLocks | kRoots | kNodes | kRefcount | kKptr;
constexpr size_t kMaxFields = 11;

struct FieldShape {
  const char* name;
  Field field;
  uint32_t size;   // bytes
  uint32_t align;  // bytes
};
constexpr FieldShape kShapes[] = {
    {"bpf_spin_lock", kSpinLock, 4, 4},  {"bpf_res_spin_lock", kResSpinLock, 4, 4},
    {"bpf_timer", kTimer, 16, 8},        {"bpf_wq", kWq, 16, 8},
    {"bpf_task_work", kTaskWork, 8, 8},  {"bpf_list_head", kListHead, 16, 8},
    {"bpf_list_node", kListNode, 24, 8}, {"bpf_rb_root", kRbRoot, 16, 8},
    {"bpf_rb_node", kRbNode, 32, 8},     {"bpf_refcount", kRefcount, 4, 4},
};

/// By name alone, as the kernel does: an integer of that name takes the place of a field without being one.
const FieldShape* shape_of(const Btf& btf, uint32_t type) {
  const std::string_view name = btf.name(type);
  const auto* found = std::ranges::find_if(kShapes, [&](const FieldShape& shape) { return name == shape.name; });
  return found != std::end(kShapes) ? found : nullptr;
}

struct FoundField {
  Field field;
  uint64_t offset;          // bytes
  uint64_t size;            // bytes
  uint32_t contained = 0;   // roots: type id of the struct that they hold
  std::string_view node{};  // roots: the member of that struct
};

/// Finds fields in one BTF. What it learns about structs without fields it keeps, so that the walk is bounded by the
/// fields found and not by how often a struct is used.
class FieldFinder {
 public:
  FieldFinder(const Btf& btf, uint32_t mask) : btf_(btf), mask_(mask) {}

  /// The fields of a STRUCT or a DATASEC, checked against each other.
  Result<std::vector<FoundField>> find(uint32_t type) {
    std::vector<FoundField> fields;
    Status status{};
    if (btf_.kind_of(type) == BtfKind::kStruct) {
      status = find_in_struct(type, 0, 0, fields);
    } else if (btf_.kind_of(type) == BtfKind::kDatasec) {
      status = find_in_section(type, fields);
    }
    if (status) status = check_together(fields, btf_.size_or_type(type));
    if (!status) return std::unexpected(status.error());
    return fields;
  }

 private:
  struct Place {
    uint32_t type;           // of the member or variable
    uint64_t offset;         // bytes from the start of the value
    uint64_t expected_size;  // bytes, 0: any
    uint32_t parent;         // the struct whose decl tags speak of it
    uint32_t index;          // its member there
  };

  Status find_in_struct(uint32_t id, uint64_t base, uint32_t depth, std::vector<FoundField>& fields) {
    if (barren_.contains(id)) return {};
    const size_t before = fields.size();
    uint32_t seen = 0;
    for (uint32_t i = 0; i < btf_.vlen(id); ++i) {
      const BtfMember member = btf_.member(id, i);
      if (member.bit_offset % 8 != 0) return fail(EINVAL);
      const Place place{member.type, base + member.bit_offset / 8, 0, id, i};
      if (Status status = find_one(place, depth, seen, fields); !status) return status;
    }
    if (fields.size() == before) barren_.insert(id);
    return {};
  }

  Status find_in_section(uint32_t id, std::vector<FoundField>& fields) {
    uint32_t seen = 0;
    for (uint32_t i = 0; i < btf_.vlen(id); ++i) {
      const BtfSectionVariable variable = btf_.section_variable(id, i);
      const Place place{btf_.size_or_type(variable.type), variable.offset, variable.size, variable.type, UINT32_MAX};
      if (Status status = find_one(place, 0, seen, fields); !status) return status;
    }
    return {};
  }

  Status find_one(const Place& place, uint32_t depth, uint32_t& seen, std::vector<FoundField>& fields) {
    uint32_t type = place.type;
    uint64_t elements = 1;
    for (uint32_t nesting = 0; btf_.kind_of(type) == BtfKind::kArray; ++nesting) {
      if (nesting == Btf::kMaxDepth) return fail(E2BIG);
      elements *= btf_.array_length(type);
      type = btf_.target(type);
    }
    if (elements == 0) return {};
    const FieldShape* shape = shape_of(btf_, type);
    if (shape != nullptr && (mask_ & shape->field) == 0) shape = nullptr;
    const size_t before = fields.size();
    uint64_t size = 8;
    if (shape != nullptr) {
      if ((shape->field & kUnique & seen) != 0) return fail(E2BIG);
      seen |= shape->field;
      size = shape->size;
      if (place.expected_size != 0 && place.expected_size != size * elements) return {};
      if (place.offset % shape->align != 0) return {};
      if (btf_.kind_of(type) != BtfKind::kStruct || btf_.size_or_type(type) != size) return {};
      FoundField field{shape->field, place.offset, size};
      if ((shape->field & kRoots) != 0) {
        if (Status status = find_contained(place, field); !status) return status;
      }
      fields.push_back(field);
    } else if (btf_.kind_of(type) == BtfKind::kStruct) {
      size = btf_.size_or_type(type);
      if (place.expected_size != 0 && place.expected_size != size * elements) return {};
      if (depth + 1 >= Btf::kMaxDepth) return fail(E2BIG);
      if (Status status = find_in_struct(type, place.offset, depth + 1, fields); !status) return status;
    } else if (btf_.kind_of(type) == BtfKind::kPtr && (mask_ & (kKptr | kUptr)) != 0) {
      if (place.expected_size != 0 && place.expected_size != size * elements) return {};
      if (place.offset % 8 != 0) return {};
      if (Status status = find_kptr(type, place.offset, fields); !status) return status;
    }
    if (fields.size() > kMaxFields) return fail(E2BIG);
    return repeat(fields, before, elements, size);
  }

  /// The fields from `first` on stand in an array of `elements` times `size` bytes.
  static Status repeat(std::vector<FoundField>& fields, size_t first, uint64_t elements, uint64_t size) {
    const size_t count = fields.size() - first;
    if (count == 0 || elements == 1) return {};
    for (size_t i = first; i < fields.size(); ++i) {
      if ((fields[i].field & kRepeatable) == 0) return fail(EINVAL);
    }
    if (elements > kMaxFields || first + count * elements > kMaxFields) return fail(E2BIG);
    for (uint64_t k = 1; k < elements; ++k) {
      for (size_t i = 0; i < count; ++i) {
        FoundField copy = fields[first + i];
        copy.offset += k * size;
        fields.push_back(copy);
      }
    }
    return {};
  }

  Status find_kptr(uint32_t pointer, uint64_t offset, std::vector<FoundField>& fields) const {
    const uint32_t tag = btf_.target(pointer);
    if (btf_.kind_of(tag) != BtfKind::kTypeTag || btf_.kind_flag(tag)) return {};
    if (btf_.kind_of(btf_.target(tag)) == BtfKind::kTypeTag) return fail(EINVAL);
    const std::string_view name = btf_.name(tag);
    Field field = kKptr;
    if (name == "uptr") {
      field = kUptr;
    } else if (name != "kptr" && name != "kptr_untrusted" && name != "percpu_kptr") {
      return fail(EINVAL);
    }
    if ((field & mask_) == 0) return {};
    const uint32_t target = btf_.skip_modifiers(tag);
    if (btf_.kind_of(target) != BtfKind::kStruct) return fail(EINVAL);
    if (name == "kptr" && !can_be_released(btf_.name(target))) return fail(ENOENT);
    fields.push_back({field, offset, 8});
    return {};
  }

  /// A map can own structs of the program's, and those of the kernel that it has a function to let go of. Which that
  /// is no BTF says; on a host that shows no types of its kernel every other struct is the program's.
  [[nodiscard]] bool can_be_released(std::string_view name) const {
    for (const std::string_view known :
         {"task_struct", "cgroup", "bpf_cpumask", "bpf_crypto_ctx", "prog_test_ref_kfunc", "prog_test_member"}) {
      if (name == known) return true;
    }
    if (kernel_ == nullptr) kernel_ = std::make_unique<const Result<KernelBtf>>(KernelBtf::read());
    return !*kernel_ || (*kernel_)->find(BtfKind::kStruct, name) == 0;
  }

  /// The "contains:STRUCT:NODE" tag of a list head or tree root.
  Status find_contained(const Place& place, FoundField& root) {
    index_names();
    const auto tag = contains_.find(uint64_t{place.parent} << 32 | place.index);
    if (tag == contains_.end() || tag->second.empty()) return fail(EINVAL);
    const std::string_view text = tag->second;
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) return fail(EINVAL);
    const auto contained = structs_.find(text.substr(0, colon));
    if (contained == structs_.end()) return fail(ENOENT);
    root.contained = contained->second;
    root.node = text.substr(colon + 1);
    return root.node.empty() ? Status(fail(EINVAL)) : Status{};
  }

  void index_names() {
    if (!structs_.empty() || !contains_.empty()) return;
    constexpr std::string_view kPrefix = "contains:";
    for (uint32_t id = 1; id < btf_.type_count(); ++id) {
      if (btf_.kind_of(id) == BtfKind::kStruct) structs_.try_emplace(btf_.name(id), id);
      if (btf_.kind_of(id) != BtfKind::kDeclTag || !btf_.name(id).starts_with(kPrefix)) continue;
      const uint64_t key = uint64_t{btf_.target(id)} << 32 | btf_.extra(id, 0);
      const auto [at, fresh] = contains_.try_emplace(key, btf_.name(id).substr(kPrefix.size()));
      if (!fresh) at->second = {};  // two tags say two things: neither counts
    }
  }

  Status check_together(const std::vector<FoundField>& fields, uint64_t value_size) const {
    uint64_t end = 0;
    uint32_t present = 0;
    for (const FoundField& field : fields) {
      if (field.offset + field.size > value_size) return fail(EFAULT);
      if (field.offset < end) return fail(EEXIST);
      end = field.offset + field.size;
      present |= field.field;
      if ((field.field & kRoots) != 0) {
        if (Status status = check_node(field); !status) return status;
      }
    }
    if ((present & kLocks) == kLocks) return fail(EINVAL);
    if ((present & kRoots) != 0 && (present & kLocks) == 0) return fail(EINVAL);
    if ((present & kNodes) == kNodes && (present & kRefcount) == 0)
      return fail(EINVAL);  // in a list and a tree at once
    return {};
  }

  Status check_node(const FoundField& root) const {
    const Field wanted = root.field == kListHead ? kListNode : kRbNode;
    for (uint32_t i = 0; i < btf_.vlen(root.contained); ++i) {
      const BtfMember member = btf_.member(root.contained, i);
      if (member.name != root.node) continue;
      const FieldShape* shape = shape_of(btf_, member.type);
      if (shape == nullptr || shape->field != wanted || btf_.kind_of(member.type) != BtfKind::kStruct) {
        return fail(EINVAL);
      }
      return member.bit_offset % (8 * shape->align) == 0 ? Status{} : Status(fail(EINVAL));
    }
    return fail(ENOENT);
  }

  const Btf& btf_;
  uint32_t mask_;
  mutable std::unique_ptr<const Result<KernelBtf>> kernel_;  // read when it is first asked
  std::unordered_set<uint32_t> barren_;
  std::unordered_map<std::string_view, uint32_t> structs_;
  std::unordered_map<uint64_t, std::string_view> contains_;  // by type and component: what follows the prefix
};

ValueFields::Empty::Kind empty_kind(Field field) {
  if (field == kKptr) return ValueFields::Empty::kKernelPointer;
  if (field == kUptr) return ValueFields::Empty::kUserPointer;
  return field == kRefcount ? ValueFields::Empty::kRefcount : ValueFields::Empty::kRoot;
}

}  // namespace

ValueFields fields_of_value(const Btf& btf, uint32_t id) {
  ValueFields result;
  const auto fields = FieldFinder(btf, kOfValues).find(id);
  if (!fields) return result;
  for (const FoundField& field : *fields) {
    const auto offset = static_cast<uint32_t>(field.offset);
    switch (field.field) {
      case kSpinLock:
        result.spin_lock = offset;
        break;
      case kResSpinLock:
        result.res_spin_lock = offset;
        break;
      case kTimer:
        result.timer = offset;
        break;
      case kWq:
        result.wq = offset;
        break;
      case kTaskWork:
        result.task_work = offset;
        break;
      default:
        result.empty[result.empty_count++] = {offset, empty_kind(field.field)};
    }
  }
  return result;
}

namespace {

/// A pointer with one tag, of a kernel pointer, to a struct.
bool points_to_kernel(const Btf& btf, uint32_t type) {
  if (btf.kind_of(type) != BtfKind::kPtr) return false;
  const uint32_t tag = btf.target(type);
  if (btf.kind_of(tag) != BtfKind::kTypeTag || btf.kind_flag(tag)) return false;
  const std::string_view name = btf.name(tag);
  return (name == "kptr" || name == "kptr_untrusted" || name == "percpu_kptr") &&
         btf.kind_of(btf.target(tag)) != BtfKind::kTypeTag && btf.kind_of(btf.skip_modifiers(tag)) == BtfKind::kStruct;
}

}  // namespace

Status check_struct_fields(const Btf& btf) {
  constexpr uint32_t kTriggers = kSpinLock | kRoots | kNodes | kRefcount;
  FieldFinder finder(btf, kOfStructs);
  std::unordered_map<uint32_t, std::vector<FoundField>> found;
  std::unordered_map<uint32_t, uint32_t> first_of;  // by field: the first struct of its name, the one that counts
  for (uint32_t id = 1; id < btf.type_count(); ++id) {
    const FieldShape* shape = btf.kind_of(id) == BtfKind::kStruct ? shape_of(btf, id) : nullptr;
    if (shape != nullptr && (shape->field & kTriggers) != 0) first_of.try_emplace(shape->field, id);
  }
  for (uint32_t id = 1; id < btf.type_count(); ++id) {
    if (btf.kind_of(id) != BtfKind::kStruct) continue;
    bool relevant = false;
    for (uint32_t i = 0; i < btf.vlen(id) && !relevant; ++i) {
      const uint32_t type = btf.member(id, i).type;
      relevant = points_to_kernel(btf, type) ||
                 std::ranges::any_of(first_of, [type](const auto& entry) { return entry.second == type; });
    }
    if (!relevant) continue;
    auto fields = finder.find(id);
    if (!fields) return std::unexpected(fields.error());
    if (fields->empty()) return fail(EFAULT);
    found.emplace(id, std::move(*fields));
  }
  const auto has = [&](uint32_t id, uint32_t mask) {
    const auto at = found.find(id);
    return at != found.end() &&
           std::ranges::any_of(at->second, [&](const FoundField& field) { return (field.field & mask) != 0; });
  };
  for (const auto& [id, fields] : found) {
    for (const FoundField& field : fields) {
      if ((field.field & kRoots) != 0 && has(id, kNodes) && has(field.contained, kRoots)) return fail(ELOOP);
    }
  }
  return {};
}

}  // namespace skep
