// SPDX-License-Identifier: Apache-2.0
#include "prog/run.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "maps/value_lock.h"

namespace skep {

namespace {

Region context_region(const ContextMemory& memory) {
  uint8_t rights = Region::kRead;
  if (memory.writable) rights |= Region::kWrite | Region::kAtomic;
  if (memory.value_of != nullptr && memory.value_of->has_fields) rights |= Region::kFields | Region::kSealed;
  return {.start = reinterpret_cast<uint64_t>(memory.data),
          .length = memory.size,
          .binding = memory.value_of,
          .rights = rights};
}

}  // namespace

void Run::begin(const DecodedCode& code, const Lease& lease, const RunContext& context,
                const RunEnvironment& environment) {
  code_ = &code;
  lease_ = &lease;
  environment_ = &environment;
  entry_frame_ = __builtin_frame_address(0);
  limit_ = static_cast<int64_t>(std::min<uint64_t>(environment.instruction_limit, INT64_MAX));
  budget_ = limit_;
  stop_error_ = 0;
  depth_ = 0;
  tail_calls_ = 0;
  current_ = code.instructions.data();
  context_.reset(context, code.type, code.expected_attach_type);
  regions_.reset(code, {.start = reinterpret_cast<uint64_t>(stack_.data()),
                        .length = kFrameSize,
                        .rights = Region::kRead | Region::kWrite | Region::kAtomic});
  if (auto* const* bytes = std::get_if<BytesContext*>(&context)) {
    for (const ContextMemory& memory : (*bytes)->memory) regions_.add_fixed(context_region(memory));
  }
  records_.reset();
  packet_changed();
}

uint64_t Run::start(const DecodedCode& code, const Lease& lease, const RunContext& context,
                    const RunEnvironment& environment) {
  begin(code, lease, context, environment);
  has_context_ = true;
  const uint64_t arguments[5] = {context_.address(), 0, 0, 0, 0};
  enter(0, arguments, nullptr);
  return finish(interpret(*this, 0));
}

uint64_t Run::start_callback(const DecodedCode& code, uint32_t function, const MapBinding& map, const void* key,
                             void* value, const Lease& lease, const RunEnvironment& environment) {
  BytesContext none;
  begin(code, lease, &none, environment);
  has_context_ = false;
  if (map_at(reinterpret_cast<uint64_t>(&map)) == nullptr) {  // a map out of a map of maps
    grant({.start = reinterpret_cast<uint64_t>(&map), .length = sizeof map, .rights = Region::kMap});
  }
  grant_constant(key, map.key_size);
  const uint64_t arguments[5] = {reinterpret_cast<uint64_t>(&map), reinterpret_cast<uint64_t>(key),
                                 grant_value(map, value), 0, 0};
  enter(function, arguments, nullptr);
  return finish(interpret(*this, function));
}

uint64_t Run::finish(uint64_t result) {
  if (lock_ != nullptr) {
    stop(EDEADLK, "the program ended with a bpf_spin_lock held");
    release_lock();
  }
  if (resilient_held_ != 0) {
    stop(EDEADLK, "the program ended with a bpf_res_spin_lock held");
    while (resilient_held_ != 0) ResilientLock::release(*resilient_[--resilient_held_]);
  }
  if (records_.any_open()) {
    stop(EINVAL, "the program ended without submitting or discarding a ring buffer record that it reserved");
    records_.discard_all();
  }
  if (objects_.any_acquired()) stop(EINVAL, "the program ended with a reference that it did not release");
  objects_.reset(lease_);
  return stop_error_ == 0 ? result : 0;
}

void Run::enter(uint32_t index, const uint64_t* arguments, const Instruction* return_to) {
  Frame& frame = frames_[depth_];
  std::byte* const bottom = stack_.data() + depth_ * kFrameSize;
  std::memset(bottom, 0, kFrameSize);
  frame.registers[0] = 0;
  std::memcpy(&frame.registers[1], arguments, 5 * sizeof(uint64_t));
  for (uint32_t i = 6; i < opcode::kFramePointer; ++i) frame.registers[i] = 0;
  frame.registers[opcode::kFramePointer] = reinterpret_cast<uint64_t>(bottom + kFrameSize);
  frame.code = code_;
  frame.return_to = return_to;
  frame.entry = index;
  frame.may_goto_left = kMaxLoops;
  regions_.set_stack_length((depth_ + 1) * uint64_t{kFrameSize});
}

bool Run::push_frame(uint32_t index, const uint64_t* arguments, const Instruction* return_to) {
  if (depth_ + 1 == kFrames) {
    stop(EOVERFLOW, "the call stack of 8 frames is too deep");
    return false;
  }
  ++depth_;
  enter(index, arguments, return_to);
  return true;
}

uint64_t Run::call_function(const FunctionEntry& function, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  const uint64_t arguments[5] = {a, b, c, d, 0};
  const Instruction* const caller = current_;
  if (!push_frame(function.index, arguments, nullptr)) return 0;
  const uint64_t result = interpret(*this, function.index);
  if (stop_error_ == 0) (void)resume();
  current_ = stop_error_ == 0 ? caller : current_;
  return result;
}

// -- memory ---------------------------------------------------------------------------------------------------------

void Run::open_window(Window& window, const Region& region) {
  if (region.length < 8 || (region.rights & Region::kFields) != 0) return;
  window = {region.start, region.length - 8};
}

void Run::close_windows() {
  const Window closed{reinterpret_cast<uint64_t>(&scrap_), 0};
  read_windows_.fill(closed);
  write_windows_.fill(closed);
}

void Run::packet_changed() {
  using PacketAccess = ContextAccess::PacketAccess;
  const PacketAccess access = context_.packet_access();
  if (access != PacketAccess::kNone) {
    const PacketBuffer& packet = *context_.packet();
    regions_.set_packet(
        {.start = reinterpret_cast<uint64_t>(packet.data_meta),
         .length = static_cast<uint64_t>(packet.data_end - packet.data_meta),
         .rights = static_cast<uint8_t>(Region::kRead | (access == PacketAccess::kWrite ? Region::kWrite : 0))});
  }
  close_windows();
}

bool Run::touches_fields(const Region& region, uint64_t address, uint64_t size) {
  const uint64_t begin = address - region.start;
  const ValueFields& fields = region.binding->fields;
  const auto overlaps = [begin, size](uint32_t field, uint32_t length) {
    return field != ValueFields::kNone && begin < uint64_t{field} + length && field < begin + size;
  };
  for (const auto& field : fields.all_empty()) {
    if (overlaps(field.offset, field.size())) return true;
  }
  return overlaps(fields.spin_lock, 4) || overlaps(fields.res_spin_lock, 4) || overlaps(fields.timer, 16) ||
         overlaps(fields.wq, 16) || overlaps(fields.task_work, 8);
}

const Region* Run::reach(uint64_t address, uint64_t size, uint8_t right) {
  const Region* region = regions_.find(address, size);
  if (region == nullptr || (region->rights & right) == 0) return nullptr;
  if ((region->rights & Region::kFields) != 0 && touches_fields(*region, address, size)) return nullptr;
  return region;
}

bool Run::reachable(uint64_t address, uint64_t size, uint8_t right) {
  return size == 0 || reach(address, size, right) != nullptr;
}

bool Run::load(uint8_t base, uint64_t address, uint32_t size, uint64_t& value) {
  if (context_.contains(address)) {
    if (skb() != nullptr && address == context_.address() + offsetof(UserSkBuff, sk) && size == sizeof(uint64_t)) {
      value = objects_.socket();
      return true;
    }
    if (context_.load(address, size, value)) return true;
    stop_access(address, size, "reads a part of the context that it may not");
    return false;
  }
  const Region* region = reach(address, size, Region::kRead);
  if (region == nullptr) {
    std::byte* place;
    const bool arena = in_arena(frame().registers[base], address, size, place);
    value = 0;  // which may be the base register
    if (arena) {
      if (place != nullptr) std::memcpy(&value, place, size);
      return true;
    }
    if (objects_.load(address, size, value)) return true;
    stop_access(address, size, "reads memory that is not its own");
    return false;
  }
  open_window(read_windows_[base], *region);
  value = 0;
  std::memcpy(&value, reinterpret_cast<const void*>(address), size);
  return true;
}

bool Run::store(uint8_t base, uint64_t address, uint32_t size, uint64_t value) {
  if (context_.contains(address)) {
    if (context_.store(address, size, value)) return true;
    stop_access(address, size, "writes a part of the context that it may not");
    return false;
  }
  const Region* region = reach(address, size, Region::kWrite);
  if (region == nullptr) {
    if (std::byte * place; in_arena(frame().registers[base], address, size, place)) {
      if (place != nullptr) std::memcpy(place, &value, size);
      return true;
    }
    stop_access(address, size, "writes memory that is not its own");
    return false;
  }
  open_window(write_windows_[base], *region);
  std::memcpy(reinterpret_cast<void*>(address), &value, size);
  return true;
}

void Run::stop_access(uint64_t address, uint64_t size, std::string_view verb) {
  char text[160];
  std::snprintf(text, sizeof text, "the program %.*s: %llu bytes at 0x%llx", static_cast<int>(verb.size()), verb.data(),
                static_cast<unsigned long long>(size), static_cast<unsigned long long>(address));
  stop(EFAULT, text);
}

std::optional<std::string_view> Run::text(uint64_t address) {
  const Region* region = reach(address, 1, Region::kRead);
  if (region == nullptr || (region->rights & Region::kFields) != 0) return std::nullopt;
  const auto* begin = reinterpret_cast<const char*>(address);
  const void* end = std::memchr(begin, 0, region->start + region->length - address);
  if (end == nullptr) return std::nullopt;
  return std::string_view(begin, static_cast<size_t>(static_cast<const char*>(end) - begin));
}

// -- grants ---------------------------------------------------------------------------------------------------------

void Run::grant(const Region& region) {
  if (regions_.newest_is(region)) return;
  if (regions_.full()) {
    std::array<std::span<const uint64_t>, kFrames + 1> roots;
    for (uint32_t d = 0; d <= depth_; ++d) roots[d] = frames_[d].registers;
    roots[depth_ + 1] = {reinterpret_cast<const uint64_t*>(stack_.data()), (depth_ + 1) * kFrameSize / 8};
    regions_.collect({roots.data(), depth_ + 2});
  }
  regions_.add(region);
}

uint64_t Run::grant_value(const MapBinding& binding, void* value) {
  const auto address = reinterpret_cast<uint64_t>(value);
  const Region region{
      .start = address, .length = binding.value_size, .binding = &binding, .rights = value_rights(binding)};
  grant(region);
  return address;
}

void Run::grant_constant(const void* data, uint64_t size) {
  grant({.start = reinterpret_cast<uint64_t>(data), .length = size, .rights = Region::kRead});
}

void Run::grant_memory(const void* data, uint64_t size) {
  grant({.start = reinterpret_cast<uint64_t>(data),
         .length = size,
         .rights = Region::kRead | Region::kWrite | Region::kAtomic});
}

void Run::revoke_memory(const void* data, uint64_t size) {
  regions_.revoke(reinterpret_cast<uint64_t>(data), size);
  close_windows();
}

// -- the end --------------------------------------------------------------------------------------------------------

void Run::stop(int error, std::string_view reason) {
  if (stop_error_ != 0) return;
  stop_error_ = error;
  const auto index = static_cast<size_t>(current_ - code_->instructions.data());
  stop_reason_ = "insn " + std::to_string(code_->origins[index]) + ": ";
  stop_reason_ += reason;
}

}  // namespace skep
