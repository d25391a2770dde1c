// SPDX-License-Identifier: Apache-2.0
#include "maps/user_ringbuf_map.h"

#include <memory>
#include <utility>

#include "maps/map_kinds.h"
#include "maps/ringbuf_layout.h"

namespace skep {
namespace {

Status check(const MapSpec& spec, const MachineShape&) { return check_ringbuf(spec, BPF_F_NUMA_NODE); }

Result<MapLayout> layout(MapSpec& spec, const MachineShape&) {
  return layout_ringbuf(spec, sizeof(UserRingbufMap::Control));
}

Status initialise(const MapSegments&, Machine&) { return {}; }

Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  return std::make_unique<UserRingbufMap>(std::move(segments), machine);
}

}  // namespace

const MapKind kUserRingbufKind = {.type = BPF_MAP_TYPE_USER_RINGBUF,
                                  .name = "user_ringbuf",
                                  .check_late = check,
                                  .layout = layout,
                                  .initialise = initialise,
                                  .open = open,
                                  .keyless = true,
                                  .mmapable = true};

UserRingbufMap::UserRingbufMap(MapSegments segments, Machine& machine)
    : Map(std::move(segments), machine),
      control_(*reinterpret_cast<Control*>(segments_.control.data() + kControlOffset)),
      area_(segments_.user.data(), spec().max_entries),
      bell_(control_.bell, machine_, header().file.id, true) {}

bool UserRingbufMap::writable() const {
  const uint64_t producer = area_.producer().load(std::memory_order_acquire);
  return producer - area_.consumer().load(std::memory_order_acquire) < area_.size();
}

bool UserRingbufMap::lock_drainer(const Lease& lease) {
  const uint64_t mine = uint64_t{lease.process().value} << 32 | lease.slot() | 1U << 31;
  uint64_t holder = 0;
  // Acquire pairs with the release in unlock_drainer().
  if (control_.drainer.compare_exchange_strong(holder, mine, std::memory_order_acquire)) return true;
  const ProcessTag tag{static_cast<uint32_t>(holder >> 32)};
  if (tag == machine_.self() || machine_.alive(tag)) return false;
  return control_.drainer.compare_exchange_strong(holder, mine, std::memory_order_acquire);
}

void UserRingbufMap::unlock_drainer(uint64_t flags, int64_t samples) {
  control_.drainer.store(0, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with RingbufBell::announce()
  const bool forced = (flags & BPF_RB_FORCE_WAKEUP) != 0;
  const bool wanted = forced || ((flags & BPF_RB_NO_WAKEUP) == 0 && samples > 0);
  if (wanted && bell_.awaited()) bell_.ring();
}

UserRingbufMap::Peek UserRingbufMap::peek(Sample& sample, int& error) const {
  // Pairs with the client's release store.
  const uint64_t producer = area_.producer().load(std::memory_order_acquire);
  const uint64_t consumer = area_.consumer().load(std::memory_order_relaxed);
  if (producer % 8 != 0) {
    error = EINVAL;
    return Peek::kNothing;
  }
  if (consumer >= producer) return Peek::kNothing;
  const uint32_t state = area_.state(consumer).load(std::memory_order_acquire);  // read once: the client may change it
  const uint32_t size = state & ringbuf::kLengthMask;
  const uint64_t length = ringbuf::footprint(size);
  if (length > producer - consumer || length > area_.size()) {
    error = length > producer - consumer ? EINVAL : E2BIG;
    return Peek::kNothing;
  }
  sample = {.data = area_.data(consumer), .size = size};
  if ((state & ringbuf::kDiscard) != 0) return Peek::kDiscarded;
  return (state & ringbuf::kBusy) != 0 ? Peek::kNothing : Peek::kSample;
}

void UserRingbufMap::release(const Sample& sample) {
  const uint64_t consumer = area_.consumer().load(std::memory_order_relaxed);
  commit(area_.consumer(), consumer + ringbuf::footprint(sample.size));  // pairs with the client's acquire load
}

CheckReport UserRingbufMap::check() const {
  CheckReport report;
  const uint64_t used = area_.producer().load() - area_.consumer().load();
  if (used > area_.size()) report.problem = "the positions are none that the ring ever had";
  report.free_elements = area_.size() - used;
  return report;
}

}  // namespace skep
