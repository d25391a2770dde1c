// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "btf/btf.h"

namespace skep {

/// Builds raw BTF by hand: for maps that no client describes, and for tests, correct or deliberately not. Each add
/// function returns the new type's id.
class BtfBuilder {
 public:
  struct Member {
    std::string_view name;
    uint32_t type;
    uint32_t bit_offset;
  };

  uint32_t add(BtfKind kind, std::string_view name, uint32_t size_or_type, uint32_t vlen = 0, bool flag = false,
               std::initializer_list<uint32_t> extra = {}) {
    words_.push_back(string(name));
    words_.push_back(static_cast<uint32_t>(kind) << 24 | vlen | (flag ? 1U << 31 : 0));
    words_.push_back(size_or_type);
    words_.insert(words_.end(), extra);
    return next_id_++;
  }
  uint32_t integer(std::string_view name, uint32_t bytes, uint32_t encoding = 0) {
    return add(BtfKind::kInt, name, bytes, 0, false, {encoding << 24 | bytes * 8});
  }
  uint32_t structure(std::string_view name, uint32_t bytes, std::initializer_list<Member> members,
                     BtfKind kind = BtfKind::kStruct, bool flag = false) {
    const uint32_t id = add(kind, name, bytes, static_cast<uint32_t>(members.size()), flag);
    for (const Member& member : members) append_member(member);
    return id;
  }
  /// One more of the members that the last add() announced.
  void append_member(const Member& member) {
    words_.insert(words_.end(), {string(member.name), member.type, member.bit_offset});
  }
  uint32_t array(uint32_t element, uint32_t index, uint32_t length) {
    return add(BtfKind::kArray, "", 0, 0, false, {element, index, length});
  }
  uint32_t prototype(uint32_t returns, std::initializer_list<std::pair<std::string_view, uint32_t>> parameters) {
    const uint32_t id = add(BtfKind::kFuncProto, "", returns, static_cast<uint32_t>(parameters.size()));
    for (const auto& [name, type] : parameters) words_.insert(words_.end(), {string(name), type});
    return id;
  }
  uint32_t string(std::string_view text) {
    if (text.empty()) return 0;
    const auto at = static_cast<uint32_t>(strings_.size());
    strings_.append(text);
    strings_ += '\0';
    return at;
  }

  [[nodiscard]] std::vector<std::byte> raw() const {
    const auto types = static_cast<uint32_t>(words_.size() * 4), strings = static_cast<uint32_t>(strings_.size());
    const uint32_t header[] = {0x0001eb9f, 24, 0, types, types, strings};
    std::vector<std::byte> out(sizeof header + types + strings);
    std::memcpy(out.data(), header, sizeof header);
    if (types != 0) std::memcpy(out.data() + sizeof header, words_.data(), types);
    std::memcpy(out.data() + sizeof header + types, strings_.data(), strings);
    return out;
  }

 private:
  std::vector<uint32_t> words_;
  std::string strings_ = std::string(1, '\0');
  uint32_t next_id_ = 1;
};

/// BTF with at least one type of every kind, all of them correct.
inline std::vector<std::byte> btf_of_every_kind() {
  BtfBuilder b;
  const uint32_t integer = b.integer("int", 4, 1), character = b.integer("char", 1, 2);
  const uint32_t unsigned_int = b.integer("unsigned int", 4);
  b.add(BtfKind::kFloat, "double", 8);
  const uint32_t array = b.array(character, integer, 10);
  const uint32_t lock = b.structure("bpf_spin_lock", 4, {{"val", unsigned_int, 0}});
  const uint32_t enumeration = b.add(BtfKind::kEnum, "color", 4, 2, true, {b.string("RED"), 1, b.string("BLUE"), ~0U});
  const uint32_t wide = b.add(BtfKind::kEnum64, "wide", 8, 1, false, {b.string("BIG"), 0, 16});
  const uint32_t forward = b.add(BtfKind::kFwd, "later", 0);
  const uint32_t pointer = b.add(BtfKind::kPtr, "", forward);
  const uint32_t choice = b.structure("choice", 8, {{"a", integer, 0}, {"p", pointer, 0}}, BtfKind::kUnion);
  const uint32_t record = b.structure("record", 64,
                                      {{"lock", lock, 0},
                                       {"flags", integer, 3U << 24 | 32},
                                       {"more", integer, 5U << 24 | 40},
                                       {"color", enumeration, 64},
                                       {"choice", choice, 128},
                                       {"text", array, 192},
                                       {"wide", wide, 320},
                                       {"next", choice + 2, 384}},
                                      BtfKind::kStruct, true);
  b.add(BtfKind::kPtr, "", record);
  b.structure("bits", 4, {{"a", integer, 3U << 24}, {"b", integer, 7U << 24 | 3}, {"c", enumeration, 2U << 24 | 10}},
              BtfKind::kStruct, true);
  const uint32_t tag = b.add(BtfKind::kTypeTag, "user", integer);
  b.add(BtfKind::kPtr, "", tag);
  const uint32_t constant = b.add(BtfKind::kConst, "", b.add(BtfKind::kVolatile, "", integer));
  const uint32_t name = b.add(BtfKind::kTypedef, "number_t", constant);
  b.add(BtfKind::kRestrict, "", pointer);
  const uint32_t prototype = b.prototype(integer, {{"context", pointer}, {"number", name}});
  const uint32_t function = b.add(BtfKind::kFunc, "main", prototype, 1);
  const uint32_t variable = b.add(BtfKind::kVar, "counter", integer, 0, false, {1});
  b.add(BtfKind::kDatasec, ".bss", 16, 1, false, {variable, 4, 4});
  b.add(BtfKind::kDeclTag, "note", function, 0, false, {1});
  return b.raw();
}

}  // namespace skep
