// SPDX-License-Identifier: Apache-2.0
#include "maps/array_map.h"

#include <climits>
#include <cstring>
#include <memory>

#include "maps/array_index.h"
#include "maps/generic_batch.h"
#include "maps/map_kinds.h"
#include "maps/scratch.h"
#include "maps/shared_word.h"
#include "maps/value_lock.h"

namespace skep {
namespace {

constexpr uint32_t kFlags = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG |
                            BPF_F_MMAPABLE | BPF_F_INNER_MAP;

uint64_t stride_of(const MapSpec& spec) { return round_up(spec.value_size, 8); }

bool values_are_words(const MapSpec& spec) { return spec.value_size <= 8 && !spec.fields.any(); }

StripedValues::Plan plan_of(const MapSpec& spec) {
  return StripedValues::plan(spec.max_entries, 1, static_cast<uint32_t>(stride_of(spec)));
}

Status check(const MapSpec& spec, const MachineShape&) {
  if (spec.max_entries == 0 || spec.key_size != 4 || spec.value_size == 0 || (spec.flags & ~kFlags) != 0) {
    return fail(EINVAL);
  }
  if (spec.value_size > INT_MAX) return fail(E2BIG);
  if (!FieldGaps(spec.fields).fit(spec.value_size)) return fail(EINVAL);
  return {};
}

Result<MapLayout> layout(MapSpec& spec, const MachineShape&) {
  MapLayout layout;
  layout.user_size = stride_of(spec) * spec.max_entries;
  layout.private_size = kControlOffset + (values_are_words(spec) ? 0 : plan_of(spec).bytes());
  layout.reserve_user = true;
  layout.reserve[0] = {.offset = 0, .length = layout.private_size};
  return layout;
}

/// Zeros are a valid empty array: values, unlocked stripes and idle redo logs.
Status initialise(const MapSegments&, Machine&) { return {}; }

Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  return std::make_unique<ArrayMap>(std::move(segments), machine);
}

}  // namespace

const MapKind kArrayKind = {.type = BPF_MAP_TYPE_ARRAY,
                            .name = "array",
                            .check = check,
                            .layout = layout,
                            .initialise = initialise,
                            .open = open,
                            .mmapable = true};

ArrayMap::ArrayMap(MapSegments segments, Machine& machine)
    : Map(std::move(segments), machine),
      values_(segments_.user.data()),
      stride_(stride_of(spec())),
      value_size_(spec().value_size),
      max_entries_(spec().max_entries),
      fields_(spec().fields) {
  if (values_are_words(spec())) return;
  const ValuePlaces places = {.base = values_,
                              .elements = max_entries_,
                              .element_stride = stride_,
                              .piece_stride = 0,
                              .pieces = 1,
                              .piece_room = static_cast<uint32_t>(stride_)};
  striped_.emplace(segments_.control.data() + kControlOffset, plan_of(spec()), places, FieldGaps(fields_),
                   segments_.control.writable(), machine_);
}

void ArrayMap::read(uint64_t index, void* value) const {
  if (!striped_) return copy_word_out(value, load_word(place(index)), value_size_);
  striped_->read(range(index), value, 0);
  striped_->gaps().clear(value);
}

Status ArrayMap::lookup(const void* key, void* value, uint64_t flags) const {
  const uint32_t index = load_index(key);
  if (flags != 0) [[unlikely]] {
    if (flags != BPF_F_LOCK || fields_.spin_lock == ValueFields::kNone) return fail(EINVAL);
    if (index >= max_entries_) return fail(ENOENT);
    return read_locked(index, value);
  }
  if (index >= max_entries_) return fail(ENOENT);
  read(index, value);
  return {};
}

Status ArrayMap::read_locked(uint64_t index, void* value) const {
  std::atomic<uint32_t>& lock = ValueLock::of(place(index), fields_);
  if (segments_.user.writable()) {
    const Lease lease(machine_);
    const auto taken = ValueLock::acquire(machine_, lock);
    if (!taken) return std::unexpected(taken.error());
    // Once the lock is free again nobody knows any more that its dead holder's write waits to be completed; a program
    // that takes it next would see half of that, and have its own write undone by the completion.
    if (*taken == ValueLock::Taken::kFromDead) (void)striped_->settle(lease, index);
    read(index, value);
    ValueLock::release(lock);
    return {};
  }
  // A read-only window cannot take the lock: two equal copies with the lock word unchanged are one undisturbed value.
  const auto again = std::make_unique<std::byte[]>(value_size_);
  for (;;) {
    const uint32_t word = ValueLock::wait_until_free(machine_, lock);
    read(index, value);
    read(index, again.get());
    std::atomic_thread_fence(std::memory_order_acquire);
    if (lock.load(std::memory_order_relaxed) != word) continue;
    if (std::memcmp(value, again.get(), value_size_) == 0) return {};
  }
}

Status ArrayMap::next_key(const void* key, void* next) const { return next_index(max_entries_, key, next); }

BatchResult ArrayMap::lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                                   BatchSink& sink) const {
  return generic_lookup_batch(*this, in_cursor, out_cursor, capacity, flags, sink);
}

uint32_t ArrayMap::lookup_many(const void* keys, void* values, uint8_t* found, uint32_t count) const {
  // Indices do not depend on each other, so the processor overlaps the misses of this loop by itself.
  uint32_t hits = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t index = load_index(static_cast<const std::byte*>(keys) + uint64_t{i} * 4);
    found[i] = index < max_entries_;
    if (!found[i]) continue;
    read(index, static_cast<std::byte*>(values) + uint64_t{i} * value_size_);
    ++hits;
  }
  return hits;
}

void* ArrayMap::find(const Lease&, const void* key) const {
  const uint32_t index = load_index(key);
  return index < max_entries_ ? place(index) : nullptr;
}

Status ArrayMap::write(const Lease& lease, uint64_t index, const void* value) {
  if (striped_) return striped_->write(lease, range(index), value, 0);
  store_word(place(index), value, value_size_);  // COMMIT
  return {};
}

Status ArrayMap::update(const Lease& lease, const void* key, const void* value, uint64_t flags) {
  const uint32_t index = load_index(key);
  if ((flags & ~uint64_t{BPF_F_LOCK}) > BPF_EXIST) return fail(EINVAL);
  if (auto status = check_index_update(max_entries_, index, flags); !status) return status;
  if ((flags & BPF_F_LOCK) == 0) return write(lease, index, value);
  if (fields_.spin_lock == ValueFields::kNone) return fail(EINVAL);
  std::atomic<uint32_t>& lock = ValueLock::of(place(index), fields_);
  if (auto taken = ValueLock::acquire(machine_, lock); !taken) return std::unexpected(taken.error());
  const Status status = write(lease, index, value);
  ValueLock::release(lock);
  return status;
}

Status ArrayMap::erase(const Lease&, const void*) { return fail(EINVAL); }

Result<uint64_t> ArrayMap::for_each(const Lease&, const std::function<Visit(const void*, void*)>& visit) {
  for (uint32_t index = 0; index < max_entries_; ++index) {
    if (visit(&index, place(index)) == Visit::kStop) return uint64_t{index} + 1;
  }
  return max_entries_;
}

Status ArrayMap::modify(const Lease& lease, const void* key, const std::function<void(void*)>& change) {
  const uint32_t index = load_index(key);
  if (index >= max_entries_) return fail(ENOENT);
  if (!striped_) return modify_word(place(index), change);
  Scratch scratch(value_size_);
  return striped_->modify(lease, range(index), scratch.data(), change);
}

Status ArrayMap::modify_word(void* place, const std::function<void(void*)>& change) const {
  uint64_t seen = load_word(place);
  for (;;) {
    alignas(8) std::byte edited[8];
    std::memcpy(edited, &seen, 8);
    change(edited);
    uint64_t desired = seen;
    std::memcpy(&desired, edited, value_size_);
    if (exchange_word(place, seen, desired)) return {};  // COMMIT
  }
}

void ArrayMap::settle(const Lease& lease, void* value) {
  const auto offset = static_cast<uint64_t>(static_cast<std::byte*>(value) - values_);
  // Whatever keeps us from the stripe, its holder or the next one completes the write instead.
  if (striped_ && offset / stride_ < max_entries_) (void)striped_->settle(lease, offset / stride_);
}

void ArrayMap::settle_dead(const Lease& lease, void* value) {
  const auto offset = static_cast<uint64_t>(static_cast<std::byte*>(value) - values_);
  if (striped_ && offset / stride_ < max_entries_ && striped_->left_by_dead(offset / stride_)) settle(lease, value);
}

bool ArrayMap::copy_key(const void* value, void* key) const {
  const auto offset = static_cast<uint64_t>(static_cast<const std::byte*>(value) - values_);
  const uint64_t index = offset / stride_;
  if (index >= max_entries_) return false;
  const auto narrow = static_cast<uint32_t>(index);
  std::memcpy(key, &narrow, sizeof narrow);
  return true;
}

CheckReport ArrayMap::check() const {
  CheckReport report = {.elements = max_entries_, .free_elements = 0, .problem = {}};
  const char* problem = striped_ ? striped_->check() : nullptr;
  if (problem != nullptr) report.problem = problem;
  return report;
}

}  // namespace skep
