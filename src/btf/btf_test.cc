// SPDX-License-Identifier: Apache-2.0
#include "btf/btf.h"

#include <gtest/gtest.h>

#include "btf/btf_builder.h"

namespace skep {
namespace {

std::shared_ptr<const Btf> parse(const BtfBuilder& builder) {
  VerifierLog log(VerifierLog::kLevel1);
  auto btf = Btf::parse(builder.raw(), &log);
  EXPECT_TRUE(btf) << log.text();
  return btf ? *btf : nullptr;
}
int error_of(std::span<const std::byte> raw) {
  const auto btf = Btf::parse(raw);
  return btf ? 0 : to_int(btf.error());
}
int error_of(const BtfBuilder& builder) { return error_of(builder.raw()); }

TEST(Btf, AnswersWhatEveryKindIs) {
  const auto raw = btf_of_every_kind();
  const auto btf = *Btf::parse(raw);
  bool seen[20] = {};
  for (uint32_t id = 1; id < btf->type_count(); ++id) seen[static_cast<size_t>(btf->kind_of(id))] = true;
  for (size_t kind = 1; kind < std::size(seen); ++kind) EXPECT_TRUE(seen[kind]) << kind;
  EXPECT_EQ(btf->name(1), "int");
  EXPECT_EQ(btf->kind_of(0), BtfKind::kVoid);
  EXPECT_EQ(btf->kind_of(9999), BtfKind::kVoid);
  EXPECT_EQ(btf->name(9999), "");
  EXPECT_EQ(btf->raw().size(), raw.size());
}

TEST(Btf, Sizes) {
  BtfBuilder b;
  const uint32_t integer = b.integer("int", 4, 1);
  const uint32_t inner = b.array(integer, integer, 3), outer = b.array(inner, integer, 5);
  const uint32_t name = b.add(BtfKind::kTypedef, "matrix", b.add(BtfKind::kConst, "", outer));
  const uint32_t pointer = b.add(BtfKind::kPtr, "", 0);
  const uint32_t function = b.add(BtfKind::kFunc, "f", b.prototype(0, {}), 0);
  const auto btf = parse(b);
  EXPECT_EQ(btf->size_of(integer).value(), 4U);
  EXPECT_EQ(btf->size_of(name).value(), 60U);
  EXPECT_EQ(btf->size_of(pointer).value(), 8U);
  EXPECT_EQ(btf->size_of(function).error(), Errno{EINVAL});
  EXPECT_EQ(btf->size_of(0).error(), Errno{EINVAL});
  EXPECT_EQ(btf->size_of(12345).error(), Errno{EINVAL});
}

TEST(Btf, ArrayKeysAre32BitIntegersAtBitZero) {
  BtfBuilder b;
  const uint32_t plain = b.integer("int", 4, 1), unsigned_int = b.integer("u32", 4);
  const uint32_t narrow = b.add(BtfKind::kInt, "i31", 4, 0, false, {31});
  const uint32_t shifted = b.add(BtfKind::kInt, "shifted", 8, 0, false, {32 | 1U << 16});
  const uint32_t character = b.integer("char", 1), name = b.add(BtfKind::kTypedef, "key_t", plain);
  const uint32_t enumeration = b.add(BtfKind::kEnum, "e", 4);
  const auto btf = parse(b);
  EXPECT_TRUE(btf->is_32bit_int(plain));
  EXPECT_TRUE(btf->is_32bit_int(unsigned_int));
  EXPECT_TRUE(btf->is_32bit_int(name));
  EXPECT_FALSE(btf->is_32bit_int(narrow));
  EXPECT_FALSE(btf->is_32bit_int(shifted));
  EXPECT_FALSE(btf->is_32bit_int(character));
  EXPECT_FALSE(btf->is_32bit_int(enumeration));
}

/// A value with two members of a struct called `name`, `bytes` long, the second at byte `second`.
struct SpecialValue {
  BtfBuilder b;
  uint32_t field = 0, value = 0;
  SpecialValue(std::string_view name, uint32_t bytes, uint32_t first, uint32_t second, uint32_t size) {
    const uint32_t filler = b.array(b.integer("char", 1), 1, bytes);
    field = b.structure(name, bytes, {{"x", filler, 0}});
    if (second == 0) {
      value = b.structure("value", size, {{"a", field, first * 8}});
    } else {
      value = b.structure("value", size, {{"a", field, first * 8}, {"b", field, second * 8}});
    }
  }
};

TEST(BtfValueFields, FindsFieldsByNameSizeAndAlignment) {
  {
    const SpecialValue lock("bpf_spin_lock", 4, 8, 0, 16);
    const auto fields = *parse(lock.b)->value_fields(lock.value);
    EXPECT_EQ(fields.spin_lock, 8U);
    EXPECT_EQ(fields.timer, ValueFields::kNone);
    EXPECT_TRUE(fields.any());
    EXPECT_EQ(parse(lock.b)->value_fields(lock.field)->spin_lock, ValueFields::kNone);
  }
  EXPECT_EQ(parse(SpecialValue("bpf_timer", 16, 8, 0, 24).b)->value_fields(4)->timer, 8U);
  EXPECT_EQ(parse(SpecialValue("bpf_wq", 16, 16, 0, 32).b)->value_fields(4)->wq, 16U);
  EXPECT_EQ(parse(SpecialValue("bpf_task_work", 8, 0, 0, 8).b)->value_fields(4)->task_work, 0U);
  EXPECT_EQ(parse(SpecialValue("bpf_res_spin_lock", 4, 4, 0, 8).b)->value_fields(4)->res_spin_lock, 4U);
  EXPECT_EQ(parse(SpecialValue("bpf_refcount", 4, 4, 0, 8).b)->value_fields(4)->all_empty()[0].offset, 4U);
  // Wrong size, wrong alignment, twice: plain data.
  EXPECT_FALSE(parse(SpecialValue("bpf_timer", 24, 0, 0, 24).b)->value_fields(4)->any());
  EXPECT_FALSE(parse(SpecialValue("bpf_timer", 16, 4, 0, 24).b)->value_fields(4)->any());
  EXPECT_FALSE(parse(SpecialValue("bpf_timer", 16, 0, 16, 32).b)->value_fields(4)->any());
  EXPECT_FALSE(parse(SpecialValue("bpf_timer_", 16, 0, 0, 16).b)->value_fields(4)->any());
  EXPECT_FALSE(parse(SpecialValue("bpf_timer", 16, 0, 0, 16).b)->value_fields(77).has_value());
}

TEST(BtfValueFields, LooksIntoNestedStructsAndArraysOfOne) {
  BtfBuilder b;
  const uint32_t integer = b.integer("int", 4, 1);
  const uint32_t lock = b.structure("bpf_spin_lock", 4, {{"v", integer, 0}});
  const uint32_t inner = b.structure("inner", 8, {{"pad", integer, 0}, {"lock", lock, 32}});
  const uint32_t outer = b.structure("outer", 16, {{"pad", integer, 0}, {"inner", inner, 64}});
  const uint32_t once = b.structure("once", 8, {{"a", b.array(inner, integer, 1), 0}});
  const uint32_t twice = b.structure("twice", 16, {{"a", b.array(inner, integer, 2), 0}});
  const uint32_t choice = b.structure("choice", 4, {{"l", lock, 0}, {"i", integer, 0}}, BtfKind::kUnion);
  const uint32_t hidden = b.structure("hidden", 4, {{"u", choice, 0}});
  const auto btf = parse(b);
  EXPECT_EQ(btf->value_fields(outer)->spin_lock, 12U);
  EXPECT_EQ(btf->value_fields(once)->spin_lock, 4U);
  EXPECT_FALSE(btf->value_fields(twice)->any());
  EXPECT_FALSE(btf->value_fields(choice)->any());
  EXPECT_FALSE(btf->value_fields(hidden)->any());
  EXPECT_FALSE(btf->value_fields(integer)->any());
}

TEST(BtfValueFields, LooksIntoSections) {
  BtfBuilder b;
  const uint32_t integer = b.integer("int", 4, 1);
  const uint32_t lock = b.structure("bpf_spin_lock", 4, {{"v", integer, 0}});
  const uint32_t variable = b.add(BtfKind::kVar, "guard", lock, 0, false, {1});
  const uint32_t section = b.add(BtfKind::kDatasec, ".bss", 16, 1, false, {variable, 8, 4});
  EXPECT_EQ(parse(b)->value_fields(section)->spin_lock, 8U);
}

TEST(BtfLoad, SpecialFieldsOfStructs) {
  EXPECT_EQ(error_of(SpecialValue("bpf_spin_lock", 4, 0, 4, 8).b), E2BIG);
  EXPECT_EQ(error_of(SpecialValue("bpf_spin_lock", 8, 0, 0, 8).b), EFAULT);
  EXPECT_EQ(error_of(SpecialValue("bpf_spin_lock", 4, 2, 0, 8).b), EFAULT);
  EXPECT_EQ(error_of(SpecialValue("bpf_timer", 16, 0, 16, 32).b), 0);
  EXPECT_EQ(error_of(SpecialValue("bpf_list_head", 16, 0, 0, 16).b), EINVAL);
}

TEST(BtfLoad, ContainmentThatNeverEnds) {
  BtfBuilder self;
  self.structure("s", 8, {{"me", 1, 0}});
  EXPECT_EQ(error_of(self), EEXIST);
  BtfBuilder modifiers;
  modifiers.add(BtfKind::kConst, "", 2);
  modifiers.add(BtfKind::kVolatile, "", 1);
  EXPECT_EQ(error_of(modifiers), EEXIST);
  BtfBuilder list;
  list.structure("node", 8, {{"next", 2, 0}});
  list.add(BtfKind::kPtr, "", 1);
  EXPECT_EQ(error_of(list), 0);
}

TEST(BtfLoad, DepthIsBounded) {
  for (const uint32_t depth : {31U, 32U, 33U, 5000U}) {
    BtfBuilder b;
    for (uint32_t i = 1; i < depth; ++i) b.structure("", 4, {{"inner", i + 1, 0}});
    b.structure("", 4, {});
    EXPECT_EQ(error_of(b), depth <= 32 ? 0 : E2BIG) << depth;
  }
}

TEST(BtfLoad, SizesAreBounded) {
  EXPECT_EQ(error_of(std::vector<std::byte>(Btf::kMaxSize + 1)), E2BIG);
  EXPECT_EQ(error_of(std::vector<std::byte>(Btf::kMaxSize)), EINVAL);
  BtfBuilder b;
  const uint32_t integer = b.integer("int", 4);
  b.array(b.array(integer, integer, 1U << 16), integer, 1U << 16);
  EXPECT_EQ(error_of(b), EINVAL);
  BtfBuilder many;
  for (uint32_t i = 0; i <= Btf::kMaxTypes; ++i) many.add(BtfKind::kPtr, "", 0);
  EXPECT_EQ(error_of(many), E2BIG);
}

TEST(BtfLoad, EveryTruncationIsRefused) {
  const auto raw = btf_of_every_kind();
  for (size_t size = 0; size < raw.size(); ++size) EXPECT_NE(error_of(std::span(raw).first(size)), 0) << size;
}

TEST(BtfLoad, LogTellsTheTypeAndTheReason) {
  BtfBuilder b;
  b.integer("int", 4, 1);
  b.structure("record", 4, {{"tail", 1, 8}});
  VerifierLog log(VerifierLog::kLevel1);
  EXPECT_FALSE(Btf::parse(b.raw(), &log));
  EXPECT_NE(log.text().find("[2] STRUCT record size=4 vlen=1"), std::string::npos) << log.text();
  EXPECT_NE(log.text().find("Member exceeds struct_size"), std::string::npos) << log.text();
  EXPECT_EQ(log.true_size(), log.text().size() + 1);
  VerifierLog silent(0);
  EXPECT_FALSE(Btf::parse(b.raw(), &silent));
  EXPECT_EQ(silent.true_size(), 0U);
}

}  // namespace
}  // namespace skep
