// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "btf/verifier_log.h"
#include "maps/map_spec.h"
#include "memory/result.h"

namespace skep {

/// The kinds of BTF type, with the format's own numbers. Type id 0 is always void.
enum class BtfKind : uint8_t {
  kVoid = 0,
  kInt = 1,
  kPtr = 2,
  kArray = 3,
  kStruct = 4,
  kUnion = 5,
  kEnum = 6,
  kFwd = 7,
  kTypedef = 8,
  kVolatile = 9,
  kConst = 10,
  kRestrict = 11,
  kFunc = 12,
  kFuncProto = 13,
  kVar = 14,
  kDatasec = 15,
  kFloat = 16,
  kDeclTag = 17,
  kTypeTag = 18,
  kEnum64 = 19,
};

/// Linkage of a kFunc.
enum class BtfLinkage : uint8_t { kStatic = 0, kGlobal = 1, kExtern = 2 };

/// One member of a struct or union.
struct BtfMember {
  std::string_view name;   // "" for an anonymous one
  uint32_t type;           // type id
  uint32_t bit_offset;     // from the start of the struct
  uint32_t bitfield_bits;  // 0: not a bit field
};

/// One variable of a DATASEC.
struct BtfSectionVariable {
  uint32_t type;    // type id of the kVar
  uint32_t offset;  // bytes
  uint32_t size;    // bytes
};

/// One parameter of a FUNC_PROTO; both 0 for the "..." at the end.
struct BtfParameter {
  uint32_t name_offset;  // in the string section
  uint32_t type;         // type id
};

/// Checked BTF: a private copy of the raw bytes and where each type begins in it. Immutable, so any number of threads
/// may use it. Answers are those of Linux 6.18's BTF_LOAD and of what it does with type ids afterwards.
///
/// Everything in the bytes was checked by parse(): the queries below never read outside, never loop, never recurse
/// deeper than kMaxDepth.
class Btf {
 public:
  static constexpr uint32_t kMaxSize = 16U << 20;  // bytes; more is E2BIG
  static constexpr uint32_t kMaxTypes = 0xfffff;
  static constexpr uint32_t kMaxDepth = 32;  // of types that contain types

  /// Checks `raw` as BPF_BTF_LOAD does and copies it. The text of what is wrong goes to `log` if there is one. EINVAL:
  /// malformed; E2BIG: larger than kMaxSize, more than kMaxTypes, nested too deep, or a special field twice in a
  /// struct; EEXIST: types that contain themselves.
  static Result<std::shared_ptr<const Btf>> parse(std::span<const std::byte> raw, VerifierLog* log = nullptr);

  [[nodiscard]] std::span<const std::byte> raw() const { return raw_; }
  /// Ids are 0 (void) ... type_count() - 1.
  [[nodiscard]] uint32_t type_count() const { return static_cast<uint32_t>(offsets_.size()); }

  /// kVoid also for an id that does not exist.
  [[nodiscard]] BtfKind kind_of(uint32_t id) const;
  /// "" for an anonymous type or an id that does not exist.
  [[nodiscard]] std::string_view name(uint32_t id) const;
  /// The string at a string-section offset; null data() when there is none.
  [[nodiscard]] std::string_view string_at(uint32_t offset) const;
  /// What a PTR, TYPEDEF, CONST, VOLATILE, RESTRICT, TYPE_TAG, VAR, FUNC, FUNC_PROTO (return type), ARRAY (element
  /// type) or DECL_TAG refers to; 0 for the other kinds.
  [[nodiscard]] uint32_t target(uint32_t id) const;
  /// `id` behind its typedefs, qualifiers and type tags.
  [[nodiscard]] uint32_t skip_modifiers(uint32_t id) const;
  /// Bytes of the type behind modifiers. EINVAL: void, a function, a forward declaration, no such id, or more than
  /// 4 GiB.
  [[nodiscard]] Result<uint64_t> size_of(uint32_t id) const;
  /// Whether the type is a plain 32-bit integer at bit 0 (the key of an array map), signed or not.
  [[nodiscard]] bool is_32bit_int(uint32_t id) const { return is_plain_int(id, 4); }
  /// The same of `bytes` bytes.
  [[nodiscard]] bool is_plain_int(uint32_t id, uint32_t bytes) const;
  /// Where the special fields of a map value of this type (a STRUCT, or a DATASEC for .data / .bss) stand. A field
  /// counts only as a struct of the exact name, size and alignment, itself, in an array of one or in a nested struct;
  /// of two spin locks in different nested structs the last one counts. As in Linux 6.18 other types have no fields,
  /// and neither has a value whose fields are not well formed (a timer twice, a list head that tells no node, ...):
  /// to the map it is plain data. EINVAL: no such type.
  [[nodiscard]] Result<ValueFields> value_fields(uint32_t id) const;

  /// Members of a STRUCT or UNION; variables of a DATASEC; how many parameters a FUNC_PROTO has.
  [[nodiscard]] uint32_t vlen(uint32_t id) const;
  [[nodiscard]] BtfMember member(uint32_t id, uint32_t index) const;
  [[nodiscard]] BtfSectionVariable section_variable(uint32_t id, uint32_t index) const;
  [[nodiscard]] BtfParameter parameter(uint32_t id, uint32_t index) const;
  [[nodiscard]] BtfLinkage linkage(uint32_t func_id) const;
  /// Elements of an ARRAY.
  [[nodiscard]] uint32_t array_length(uint32_t id) const;

  // -- the records themselves ---------------------------------------------------------------------------------------
  /// The three words that every type begins with, and the words that follow them; 0 for an id that does not exist.
  [[nodiscard]] uint32_t name_offset(uint32_t id) const { return word(id, 0); }
  [[nodiscard]] uint32_t info(uint32_t id) const { return word(id, 1); }
  [[nodiscard]] uint32_t size_or_type(uint32_t id) const { return word(id, 2); }
  [[nodiscard]] uint32_t extra(uint32_t id, uint32_t index) const { return word(id, 3 + index); }
  [[nodiscard]] bool kind_flag(uint32_t id) const { return (info(id) >> 31) != 0; }

 private:
  friend class BtfChecker;
  Btf() = default;
  [[nodiscard]] uint32_t word(uint32_t id, uint32_t index) const;

  std::vector<std::byte> raw_;
  std::vector<uint32_t> offsets_;      // of each type's record in raw_; [0] is unused
  std::vector<uint32_t> array_sizes_;  // bytes of each ARRAY, 0 for the other kinds
  uint32_t strings_offset_ = 0;        // of the string section in raw_
  uint32_t strings_size_ = 0;
};

}  // namespace skep
