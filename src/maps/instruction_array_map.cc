// SPDX-License-Identifier: Apache-2.0
#include "maps/instruction_array_map.h"

#include "maps/array_index.h"
#include "maps/map_kinds.h"

namespace skep {
namespace {

using Control = InstructionArrayMap::Control;
using Value = InstructionArrayMap::Value;

Status check(const MapSpec& spec, const MachineShape&) {
  const bool fits = spec.key_size == sizeof(uint32_t) && spec.value_size == sizeof(Value) && spec.max_entries != 0;
  return fits && spec.flags == 0 ? Status{} : fail(EINVAL);
}

Result<MapLayout> layout(MapSpec& spec, const MachineShape&) {
  MapLayout layout;
  layout.private_size = kControlOffset + sizeof(Control) + uint64_t{spec.max_entries} * sizeof(Value);
  layout.reserve[0] = {.offset = 0, .length = layout.private_size};
  return layout;
}

Status initialise(const MapSegments&, Machine&) { return {}; }

Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  return std::make_unique<InstructionArrayMap>(std::move(segments), machine);
}

}  // namespace

constinit const MapKind kInstructionArrayKind = {.type = BPF_MAP_TYPE_INSN_ARRAY,
                                                 .name = "insn_array",
                                                 .check = check,
                                                 .layout = layout,
                                                 .initialise = initialise,
                                                 .open = open};

InstructionArrayMap::InstructionArrayMap(MapSegments segments, Machine& machine)
    : Map(std::move(segments), machine),
      control_(reinterpret_cast<Control*>(segments_.control.data() + kControlOffset)),
      values_(reinterpret_cast<Value*>(control_ + 1)) {}

Status InstructionArrayMap::lookup(const void* key, void* value, uint64_t flags) const {
  if (flags != 0) return fail(EINVAL);
  const uint32_t index = load_index(key);
  if (index >= entries()) return fail(ENOENT);
  const Value& from = values_[index];
  const uint32_t words[] = {from.original.load(std::memory_order_relaxed),
                            from.translated.load(std::memory_order_relaxed),
                            from.compiled.load(std::memory_order_relaxed), 0};
  std::memcpy(value, words, sizeof words);
  return {};
}

Status InstructionArrayMap::next_key(const void* key, void* next) const { return next_index(entries(), key, next); }

Status InstructionArrayMap::update(const Lease&, const void* key, const void* value, uint64_t flags) {
  if ((flags & (BPF_F_LOCK | BPF_F_CPU | BPF_F_ALL_CPUS)) != 0 || flags >> 32 != 0) return fail(EINVAL);
  const uint32_t index = load_index(key);
  if (index >= entries()) return fail(E2BIG);
  if ((flags & BPF_NOEXIST) != 0) return fail(EEXIST);
  uint32_t words[4];
  std::memcpy(words, value, sizeof words);
  if (words[1] != 0 || words[2] != 0) return fail(EINVAL);
  values_[index].original.store(words[0], std::memory_order_relaxed);
  return {};
}

Status InstructionArrayMap::erase(const Lease&, const void*) { return fail(EINVAL); }

Status InstructionArrayMap::claim(uint32_t program, uint32_t former) {
  if (!is_frozen()) return fail(EINVAL);
  for (uint32_t i = 0; i < entries(); ++i) values_[i].translated.store(original(i), std::memory_order_relaxed);
  // Release: pairs with user(), whose caller finds the numbers of whoever claimed.
  const bool claimed = control_->user.compare_exchange_strong(former, program, std::memory_order_acq_rel);
  return claimed ? Status{} : fail(EBUSY);
}

CheckReport InstructionArrayMap::check() const {
  CheckReport report;
  report.elements = entries();
  for (uint32_t i = 0; i < entries(); ++i) {
    const uint32_t translated = values_[i].translated.load(std::memory_order_relaxed);
    const bool valid = (translated == 0 || translated == original(i)) && values_[i].compiled.load() == 0;
    if (!valid) report.problem = "entry " + std::to_string(i) + " tells of another instruction than it was given";
  }
  return report;
}

}  // namespace skep
