// SPDX-License-Identifier: Apache-2.0
#include "maps/stack_map.h"

#include <memory>

#include "machine/crash_point.h"
#include "machine/holder_lock.h"
#include "maps/map_kinds.h"
#include "maps/queue_map.h"
#include "memory/shared_copy.h"
#include "skep/abi.h"

namespace skep {

struct alignas(kCacheLine) StackMap::Control {
  std::atomic<uint64_t> lock;
  std::atomic<uint64_t> extent;   // written under the lock, read by anybody
  std::atomic<uint64_t> version;  // likewise
};

namespace {

Status check_stack(const MapSpec& spec, const MachineShape&) { return check_queue_spec(spec); }

Result<MapLayout> lay_out_stack(MapSpec& spec, const MachineShape&) {
  MapLayout layout;
  layout.private_size = kControlOffset + kCacheLine + (uint64_t{spec.max_entries} + 1) * round_up(spec.value_size, 8);
  layout.reserve[0] = {.offset = 0, .length = layout.private_size};
  return layout;
}

/// Zeros are an empty stack.
Status initialise_stack(const MapSegments&, Machine&) { return {}; }

Result<std::unique_ptr<Map>> open_stack(MapSegments segments, Machine& machine) {
  return std::make_unique<StackMap>(std::move(segments), machine);
}

}  // namespace

const MapKind kStackKind = {.type = BPF_MAP_TYPE_STACK,
                            .name = "stack",
                            .check = check_stack,
                            .layout = lay_out_stack,
                            .initialise = initialise_stack,
                            .open = open_stack,
                            .keyless = true};

/// The stack's lock, while it lives.
class StackMap::Held {
 public:
  Held(const Lease& lease, Control& control) : control_(control), taken_(HolderLock::acquire(lease, control.lock)) {
    SKEP_CRASH_POINT();
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    if (taken_) HolderLock::release(control_.lock);
    SKEP_CRASH_POINT();
  }
  [[nodiscard]] Status status() const { return taken_ ? Status{} : std::unexpected(taken_.error()); }

 private:
  Control& control_;
  const Result<HolderLock::Taken> taken_;
};

StackMap::StackMap(MapSegments segments, Machine& machine)
    : Map(std::move(segments), machine),
      control_(*reinterpret_cast<Control*>(segments_.control.data() + kControlOffset)),
      cells_(segments_.control.data() + kControlOffset + sizeof(Control)),
      stride_(round_up(spec().value_size, 8)),
      cell_count_(uint64_t{spec().max_entries} + 1),
      value_size_(spec().value_size) {
  static_assert(sizeof(Control) == kCacheLine);
}

/// One that lies inside the map, whatever was written there.
StackMap::Extent StackMap::extent() const {
  const uint64_t word = control_.extent.load(std::memory_order_acquire);  // pairs with set_extent()
  const Extent extent{.bottom = static_cast<uint32_t>(word >> 32), .count = static_cast<uint32_t>(word)};
  return extent.bottom < cell_count_ && extent.count < cell_count_ ? extent : Extent{};
}

void StackMap::set_extent(uint64_t bottom, uint32_t count) {
  SKEP_CRASH_POINT();
  control_.extent.store(bottom << 32 | count, std::memory_order_release);  // COMMIT; pairs with extent()
  SKEP_CRASH_POINT();
}

uint64_t StackMap::cell(const Extent& extent, uint32_t number) const {
  const uint64_t cell = uint64_t{extent.bottom} + number;
  return cell < cell_count_ ? cell : cell - cell_count_;
}

Status StackMap::read_top(const Extent& extent, void* value) const {
  if (extent.count == 0) return fail(ENOENT);
  copy_from_shared(value, place(cell(extent, extent.count - 1)), value_size_);
  return {};
}

Status StackMap::lookup(const void*, void* value, uint64_t) const {
  for (uint32_t attempt = 1;; ++attempt) {
    if (attempt % kAttempts == 0 && segments_.control.writable()) {
      const Lease lease(machine_);
      const Held held(lease, control_);
      return held.status() ? read_top(extent(), value) : held.status();
    }
    const uint64_t before = control_.version.load(std::memory_order_acquire);  // pairs with the fence in update()
    const Status read = read_top(extent(), value);
    std::atomic_thread_fence(std::memory_order_acquire);  // the copy comes before the second look
    if (control_.version.load(std::memory_order_relaxed) == before) return read;
  }
}

Status StackMap::next_key(const void*, void*) const { return fail(EINVAL); }

Status StackMap::update(const Lease& lease, const void*, const void* value, uint64_t flags) {
  if (const Status allowed = check_push_flags(flags); !allowed) return allowed;
  const Held held(lease, control_);
  if (!held.status()) return held.status();
  const Extent now = extent();
  const bool full = now.count + uint64_t{1} == cell_count_;
  if (full && flags != BPF_EXIST) return fail(E2BIG);
  // Release: who sees this version sees the extents of what was popped before.
  control_.version.store(control_.version.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_release);  // readers see the version before the value
  SKEP_CRASH_POINT();
  copy_to_shared(place(cell(now, now.count)), value, value_size_);
  if (full) {
    set_extent(cell(now, 1), now.count);
  } else {
    set_extent(now.bottom, now.count + 1);
  }
  return {};
}

Status StackMap::erase(const Lease&, const void*) { return fail(EINVAL); }

Status StackMap::take(const Lease& lease, const void*, void* value, uint64_t) {
  const Held held(lease, control_);
  if (!held.status()) return held.status();
  const Extent now = extent();
  if (const Status read = read_top(now, value); !read) return read;
  set_extent(now.bottom, now.count - 1);
  return {};
}

CheckReport StackMap::check() const {
  const Extent now = extent();
  CheckReport report = {.elements = now.count, .free_elements = spec().max_entries - now.count, .problem = {}};
  const uint64_t word = control_.extent.load(std::memory_order_acquire);
  if (word != (uint64_t{now.bottom} << 32 | now.count)) report.problem = "the extent lies outside the map";
  const uint64_t lock = control_.lock.load(std::memory_order_acquire);
  if (lock != 0 && static_cast<uint32_t>(lock) - 1 >= machine_.slots()) report.problem = "the lock names no slot";
  return report;
}

}  // namespace skep
