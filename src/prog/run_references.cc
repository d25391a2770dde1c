// SPDX-License-Identifier: Apache-2.0
// Maps whose values stand for maps and programs, as programs use them.
#include <cerrno>
#include <cstring>

#include "machine/kernel_objects.h"
#include "maps/array_index.h"
#include "maps/reference_array_map.h"
#include "prog/program_references.h"
#include "prog/run.h"

namespace skep {
namespace {

uint64_t word_of(const MapBinding& map, const void* key) {
  if (map.references != nullptr) {
    uint32_t index;
    std::memcpy(&index, key, sizeof index);
    return map.references->word(index);
  }
  uint64_t word = 0;
  return map.map->lookup(key, &word, 0) ? word : 0;
}

}  // namespace

const MapBinding* Run::inner_map(const MapBinding& outer, const void* key) const {
  if (environment_->references == nullptr) return nullptr;
  uint64_t word = word_of(outer, key);
  while (word != 0) {
    if (const MapBinding* inner = environment_->references->map(static_cast<uint32_t>(word))) return inner;
    // An entry keeps what it stands for: if that is gone, the entry was changed meanwhile.
    const uint64_t again = word_of(outer, key);
    if (again == word) return nullptr;
    word = again;
  }
  return nullptr;
}

/// A device in a map, which programs may read: its number, and in the wide form the id of its program.
uint64_t Run::lookup_device(const MapBinding& map, const void* key) {
  const void* const place =
      map.references != nullptr ? map.references->place(load_index(key)) : map.map->find(*lease_, key);
  uint64_t word = 0;
  if (place == nullptr || !map.map->lookup(key, &word, 0) || !device_exists(static_cast<uint32_t>(word))) return 0;
  grant_constant(place, map.value_size);
  return reinterpret_cast<uint64_t>(place);
}

uint64_t Run::lookup_reference(const MapBinding& map, const void* key) {
  if (map.values == ValueMeaning::kDevice) return lookup_device(map, key);
  if (map.values != ValueMeaning::kMap) {
    stop(EINVAL, "bpf_map_lookup_elem(): programs cannot look into a map of that type");
    return 0;
  }
  const MapBinding* inner = inner_map(map, key);
  if (inner == nullptr) return 0;
  const auto handle = reinterpret_cast<uint64_t>(inner);
  grant({.start = handle, .length = sizeof(MapBinding), .rights = Region::kMap});
  return handle;
}

bool Run::tail_call(const uint64_t* registers) {
  if (holds_lock()) {
    stop(EDEADLK, "bpf_tail_call(): called while a bpf_spin_lock is held");
    return false;
  }
  const MapBinding* map = map_at(registers[2]);
  if (!is_context(registers[1]) || map == nullptr || map->values != ValueMeaning::kProgram ||
      map->references == nullptr) {
    stop(EINVAL, !is_context(registers[1]) ? "bpf_tail_call(): argument 1 is not the context"
                                           : "bpf_tail_call(): argument 2 is not a program array");
    return false;
  }
  if (tail_calls_ >= kMaxTailCalls || environment_->references == nullptr) return false;
  const uint64_t word = map->references->word(static_cast<uint32_t>(registers[3]));
  const ReadyProgram* target = word == 0 ? nullptr : environment_->references->program(static_cast<uint32_t>(word));
  if (target == nullptr || target->code->type != code_->type) return false;
  ++tail_calls_;
  code_ = target->code;
  current_ = code_->instructions.data();
  regions_.add_direct_values(*code_);
  const uint64_t arguments[5] = {context_.address(), 0, 0, 0, 0};
  enter(0, arguments, frame().return_to);
  return true;
}

}  // namespace skep
