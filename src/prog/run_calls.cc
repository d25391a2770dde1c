// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "maps/value_lock.h"
#include "prog/run.h"

namespace skep {
namespace {

constexpr uint64_t kMaxMemoryArgument = uint64_t{1} << 29;  // the verifier's bound for sizes

// Negative offsets of classic BPF count from the network or the link header.
constexpr int32_t kNetworkOffset = -0x100000;
constexpr int32_t kLinkOffset = -0x200000;

std::string name_call(const Helper& helper, std::string_view what) {
  return "bpf_" + std::string(helper.name) + "(): " + std::string(what);
}

}  // namespace

const MapBinding* Run::map_at(uint64_t value) const {
  const auto first = reinterpret_cast<uint64_t>(code_->maps.data());
  const uint64_t distance = value - first;
  if (distance < code_->maps.size() * sizeof(MapBinding) && distance % sizeof(MapBinding) == 0) [[likely]]
    return reinterpret_cast<const MapBinding*>(value);
  const Region* region = regions_.find(value, 1);
  const bool inner = region != nullptr && (region->rights & Region::kMap) != 0 && region->start == value;
  return inner ? reinterpret_cast<const MapBinding*>(value) : nullptr;
}

const FunctionEntry* Run::function_at(uint64_t value) const {
  const auto first = reinterpret_cast<uint64_t>(code_->functions.data());
  const uint64_t distance = value - first;
  if (distance >= code_->functions.size() * sizeof(FunctionEntry) || distance % sizeof(FunctionEntry) != 0) {
    return nullptr;
  }
  return reinterpret_cast<const FunctionEntry*>(value);
}

// -- helper calls -----------------------------------------------------------------------------------------------------

uint64_t Run::call_helper(const Helper& helper, const uint64_t* registers) {
  if (holds_lock() && !helper.under_locks) [[unlikely]] {
    stop(EDEADLK, name_call(helper, "called while a lock is held"));
    return 0;
  }
  const MapBinding* map = nullptr;
  for (uint32_t i = 0; i < 5 && helper.arguments[i] != Argument::kNone; ++i) {
    if (const char* problem = check_argument(helper, i, registers, map)) [[unlikely]] {
      if (stop_error_ == 0) stop(EINVAL, name_call(helper, "argument " + std::to_string(i + 1) + " " + problem));
      return 0;
    }
  }
  return helper.function(*this, registers[1], registers[2], registers[3], registers[4], registers[5]);
}

const char* Run::check_argument(const Helper& helper, uint32_t index, const uint64_t* registers,
                                const MapBinding*& map) {
  const uint64_t value = registers[1 + index];
  const auto accessible = [&](uint64_t size, uint8_t right) -> const char* {
    if (reachable(value, size, right)) return nullptr;
    stop(EFAULT,
         name_call(helper, "argument " + std::to_string(index + 1) + " points to " + std::to_string(size) +
                               " bytes that the program may not " + (right == Region::kWrite ? "write" : "read")));
    return "";
  };
  switch (helper.arguments[index]) {
    case Argument::kMap:
      map = map_at(value);
      return map == nullptr ? "is not a map of this program" : nullptr;
    case Argument::kMapKey:
      return accessible(map->key_size, Region::kRead);
    case Argument::kMapValue:
      return accessible(map->value_size, Region::kRead);
    case Argument::kMapValueOut:
      return accessible(map->value_size,
                        map->map->spec().type == BPF_MAP_TYPE_BLOOM_FILTER ? Region::kRead : Region::kWrite);
    case Argument::kReadable:
    case Argument::kReadableOrNull:
    case Argument::kWritable:
    case Argument::kWritableOrNull:
      return check_memory(helper, index, registers);
    case Argument::kSize:
      return value == 0 ? "is a size of zero" : nullptr;
    case Argument::kText:
      return text(value) ? nullptr : "is not a readable string";
    case Argument::kNumberOut:
      return value % 8 != 0 ? "is not aligned" : accessible(8, Region::kWrite);
    case Argument::kContext:
      return !is_context(value) ? "is not the context" : nullptr;
    case Argument::kContextOrSocket:
      if (skb() == nullptr) return check_object(value, RunObjects::Kind::kSocket, true, false);
      return !is_context(value) ? "is not the context" : nullptr;
    case Argument::kFunction:
      return function_at(value) == nullptr ? "is not a function of this program" : nullptr;
    case Argument::kTimer:
      map = field_map(value, &ValueFields::timer, sizeof(TimerField));
      return map == nullptr ? "is not the bpf_timer of a map value" : nullptr;
    case Argument::kWork:
      map = field_map(value, &ValueFields::wq, sizeof(TimerField));
      return map == nullptr ? "is not the bpf_wq of a map value" : nullptr;
    case Argument::kMapValueOrNull:
      return value == 0 ? nullptr : accessible(map->value_size, Region::kRead);
    case Argument::kCurrentTask:
      return value != RunObjects::current_task() ? "is not the current task" : nullptr;
    case Argument::kTask:
    case Argument::kTaskOrNull:
    case Argument::kOwnTask:
      return check_object(value, RunObjects::Kind::kTask, helper.arguments[index] == Argument::kTaskOrNull,
                          helper.arguments[index] == Argument::kOwnTask);
    case Argument::kCgroup:
    case Argument::kCgroupOrNull:
    case Argument::kOwnCgroup:
      return check_object(value, RunObjects::Kind::kCgroup, helper.arguments[index] == Argument::kCgroupOrNull,
                          helper.arguments[index] == Argument::kOwnCgroup);
    case Argument::kSocketOrNull:
      return check_object(value, RunObjects::Kind::kSocket, true, false);
    case Argument::kTaskWork:
      map = field_map(value, &ValueFields::task_work, sizeof(TaskWorkField));
      return map == nullptr ? "is not the bpf_task_work of a map value" : nullptr;
    case Argument::kMapOfField:
      return map_at(value) != map ? "is not the map that holds the field" : nullptr;
    case Argument::kResilientLock:
      return field_map(value, &ValueFields::res_spin_lock, 4) == nullptr ? "is not the bpf_res_spin_lock of a map value"
                                                                         : nullptr;
    case Argument::kLock:
    case Argument::kAnything:
    case Argument::kSizeOrZero:
    case Argument::kNone:
      return nullptr;
  }
  return nullptr;
}

const char* Run::check_object(uint64_t value, RunObjects::Kind kind, bool or_null, bool own) {
  if (value == 0 && or_null) return nullptr;
  // Only storage is asked of null and of an application's objects.
  const RunObjects::Object* const object = or_null ? objects_.find_owner(value, kind) : objects_.find(value, kind);
  if (object == nullptr) {
    return kind == RunObjects::Kind::kTask     ? "is not a task"
           : kind == RunObjects::Kind::kCgroup ? "is not a cgroup"
                                               : "is not a socket";
  }
  return own && object->acquired == 0 ? "is nothing of which the program holds a reference" : nullptr;
}

const char* Run::check_memory(const Helper& helper, uint32_t index, const uint64_t* registers) {
  const Argument kind = helper.arguments[index];
  const uint64_t address = registers[1 + index];
  const uint64_t size = registers[2 + index];
  if (size > kMaxMemoryArgument) return "has an absurd size";
  const bool may_be_null = kind == Argument::kReadableOrNull || kind == Argument::kWritableOrNull;
  if (address == 0 && may_be_null) return size == 0 ? nullptr : "is null with a size";
  const bool writes = kind == Argument::kWritable || kind == Argument::kWritableOrNull;
  if (reachable(address, size, writes ? Region::kWrite : Region::kRead)) return nullptr;
  stop(EFAULT, name_call(helper, "argument " + std::to_string(index + 1) + " points to " + std::to_string(size) +
                                     " bytes that the program may not " + (writes ? "write" : "read")));
  return "";
}

uint64_t Run::call_lookup(const uint64_t* registers) {
  const MapBinding* map = map_at(registers[1]);
  if (map == nullptr || holds_lock() || !reachable(registers[2], map->key_size, Region::kRead)) [[unlikely]] {
    call_helper(*find_helper(kHelperMapLookup), registers);  // says what is wrong
    return 0;
  }
  void* value;
  if (map->array_entries != 0) {
    uint32_t index;
    std::memcpy(&index, reinterpret_cast<const void*>(registers[2]), sizeof index);
    value = index < map->array_entries ? map->array_values + index * map->array_stride : nullptr;
  } else if (map->values == ValueMeaning::kBytes) [[likely]] {
    value = map->map->find(*lease_, reinterpret_cast<const void*>(registers[2]));
  } else {
    return lookup_reference(*map, reinterpret_cast<const void*>(registers[2]));
  }
  return value == nullptr ? 0 : grant_value(*map, value);
}

const Region* Run::field_region(uint64_t address, uint32_t ValueFields::*field, uint64_t size) {
  const Region* region = regions_.find(address, size);
  if (region == nullptr || region->binding == nullptr || (region->rights & Region::kSealed) != 0) return nullptr;
  if (!region->binding->writable) return nullptr;  // mapped for reading only: no map of fields is BPF_F_RDONLY_PROG
  const uint32_t offset = region->binding->fields.*field;
  const bool there = offset != ValueFields::kNone && address - region->start == offset;
  return there && address % std::min<uint64_t>(size, 8) == 0 ? region : nullptr;
}

const MapBinding* Run::field_map(uint64_t address, uint32_t ValueFields::*field, uint64_t size) {
  const Region* region = field_region(address, field, size);
  return region == nullptr ? nullptr : region->binding;
}

TimerPlace Run::timer_at(uint64_t address) {
  const Region* region = regions_.find(address, sizeof(TimerField));
  return {.field = reinterpret_cast<TimerField*>(address),
          .value = reinterpret_cast<void*>(region->start),
          .map = region->binding};
}

TaskWork::Item Run::task_work_at(uint64_t address, const FunctionEntry& function) {
  const Region* region = regions_.find(address, sizeof(TaskWorkField));
  TaskWork::Item item{.field = reinterpret_cast<TaskWorkField*>(address),
                      .value = reinterpret_cast<void*>(region->start),
                      .map = region->binding,
                      .code = code_->shared_from_this(),
                      .inner = nullptr,
                      .function = function.index};
  const std::vector<MapBinding>& named = code_->maps;
  if (item.map < named.data() || item.map >= named.data() + named.size()) {
    item.inner = std::make_shared<MapBinding>(*item.map);
    item.map = item.inner.get();
  }
  return item;
}

// -- locks ------------------------------------------------------------------------------------------------------------

uint64_t Run::lock_value(uint64_t address) {
  const Region* region = field_region(address, &ValueFields::spin_lock, 4);
  if (region == nullptr) {
    stop(EINVAL, "bpf_spin_lock(): the argument is not the bpf_spin_lock of a map value");
    return 0;
  }
  auto& word = *reinterpret_cast<std::atomic<uint32_t>*>(address);
  const auto taken = ValueLock::acquire(lease_->machine(), word);
  if (!taken) {
    stop(to_int(taken.error()), "bpf_spin_lock(): the lock cannot be had");
    return 0;
  }
  lock_ = &word;
  if (*taken == ValueLock::Taken::kFromDead) {
    region->binding->map->settle(*lease_, reinterpret_cast<void*>(region->start));
  }
  return 0;
}

uint64_t Run::unlock_value(uint64_t address) {
  if (lock_ == nullptr || reinterpret_cast<uint64_t>(lock_) != address) {
    stop(EINVAL, "bpf_spin_unlock(): the program does not hold that lock");
    return 0;
  }
  release_lock();
  return 0;
}

void Run::release_lock() {
  ValueLock::release(*lock_);
  lock_ = nullptr;
}

int64_t Run::lock_resilient(uint64_t address) {
  if (resilient_held_ == resilient_.size()) return -EDEADLK;
  auto* const word = reinterpret_cast<std::atomic<uint32_t>*>(address);
  const auto& held = resilient_;
  if (std::find(held.begin(), held.begin() + resilient_held_, word) != held.begin() + resilient_held_) return -EDEADLK;
  if (const Status taken = ResilientLock::acquire(lease_->machine(), *word); !taken) return -to_int(taken.error());
  resilient_[resilient_held_++] = word;
  return 0;
}

void Run::unlock_resilient(uint64_t address) {
  if (resilient_held_ == 0 || reinterpret_cast<uint64_t>(resilient_[resilient_held_ - 1]) != address) {
    stop(EINVAL, "bpf_res_spin_unlock(): that lock is not the one that the program took last");
    return;
  }
  ResilientLock::release(*resilient_[--resilient_held_]);
}

// -- packet loads of classic BPF --------------------------------------------------------------------------------------

const std::byte* Run::packet_at(const SkbContext& skb, int32_t offset, uint32_t size) const {
  const std::byte* from = skb.packet.data;
  int64_t distance = offset;
  if (offset < 0 && offset >= kNetworkOffset) {
    from = skb.network_header;
    distance = int64_t{offset} - kNetworkOffset;
  } else if (offset < 0 && offset >= kLinkOffset) {
    from = skb.mac_header;
    distance = int64_t{offset} - kLinkOffset;
  } else if (offset < 0) {
    return nullptr;
  }
  if (from == nullptr || from > skb.packet.data_end) return nullptr;
  return distance + size <= skb.packet.data_end - from ? from + distance : nullptr;
}

bool Run::load_packet(uint32_t size, int32_t offset, uint64_t& value) {
  if (context_.skb() == nullptr || frame().registers[6] != context_.address()) {
    stop(EINVAL, "R6 does not hold the context of a packet");
    return false;
  }
  const std::byte* from = packet_at(*context_.skb(), offset, size);
  if (from == nullptr) return false;
  value = 0;
  for (uint32_t i = 0; i < size; ++i) value = value << 8 | std::to_integer<uint64_t>(from[i]);
  return true;
}

}  // namespace skep
