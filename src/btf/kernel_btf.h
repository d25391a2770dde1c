// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "btf/btf.h"
#include "memory/result.h"

namespace skep {

/// The types of the running kernel, which is where clients find the ids that they name: of the functions that programs
/// are loaded for, of the kernel's functions that programs call (kfuncs), and where the members of its structs lie. A
/// private copy of the file and of where each type begins in it; immutable, so any number of threads may use it.
///
/// Unlike Btf nothing is checked but that no query reads outside: the bytes are the host's own. Reading takes a few
/// milliseconds, so who needs it keeps it for one load, not one for each name.
class KernelBtf {
 public:
  static constexpr const char* kPath = "/sys/kernel/btf/vmlinux";

  /// Reads the file. Each error with a sentence that names it. ENOENT: this kernel was built without; what open(2) and
  /// read(2) answer; EINVAL: not BTF of this machine's byte order, or a kind of type that is not known.
  static Result<KernelBtf> read(const char* path = kPath);

  /// Ids are 0 (void) ... type_count() - 1.
  [[nodiscard]] uint32_t type_count() const { return static_cast<uint32_t>(offsets_.size()); }
  /// kVoid also for an id that does not exist.
  [[nodiscard]] BtfKind kind_of(uint32_t id) const;
  /// "" for an anonymous type or an id that does not exist. Lives as long as the object.
  [[nodiscard]] std::string_view name(uint32_t id) const;
  /// The first type of that kind and name: kfuncs and attach points are kFunc. 0: there is none.
  [[nodiscard]] uint32_t find(BtfKind kind, std::string_view name) const;

  /// Bytes of a struct, union, integer, enum, float or pointer, also behind modifiers; 0 for everything else.
  [[nodiscard]] uint64_t size_of(uint32_t id) const;

  /// Where a member of a struct lies.
  struct Member {
    uint32_t offset = 0;  // bytes from the start of the struct
    uint32_t type = 0;    // type id
  };
  /// The member of that name, also one of an anonymous struct or union inside. ENOENT: there is none, or it is a bit
  /// field.
  [[nodiscard]] Result<Member> member(uint32_t struct_id, std::string_view name) const;

 private:
  KernelBtf() = default;
  Status index_types();
  [[nodiscard]] uint32_t word_at(size_t at) const;
  [[nodiscard]] uint32_t word(uint32_t id, uint32_t index) const;
  [[nodiscard]] std::string_view string_at(uint32_t offset) const;
  [[nodiscard]] uint32_t skip_modifiers(uint32_t id) const;
  [[nodiscard]] Result<Member> member_within(uint32_t struct_id, std::string_view name, uint32_t depth) const;

  std::vector<char> bytes_;
  std::vector<uint32_t> offsets_;  // of each type in bytes_; [0] is unused
  size_t strings_ = 0;             // where the strings begin in bytes_
};

}  // namespace skep
