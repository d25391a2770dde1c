// SPDX-License-Identifier: Apache-2.0
#include "maps/ringbuf_map.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "machine/waiter.h"
#include "maps/map_kinds.h"
#include "maps/ringbuf_layout.h"

namespace skep {
namespace {

Status check(const MapSpec& spec, const MachineShape&) {
  return check_ringbuf(spec, BPF_F_NUMA_NODE | BPF_F_RB_OVERWRITE);
}

Result<MapLayout> layout(MapSpec& spec, const MachineShape& shape) {
  return layout_ringbuf(spec, sizeof(RingbufMap::Control) + shape.slots * sizeof(RingbufMap::Intent));
}

/// Zeros are an empty ring of which nothing is prepared.
Status initialise(const MapSegments&, Machine&) { return {}; }

Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  return std::make_unique<RingbufMap>(std::move(segments), machine);
}

}  // namespace

const MapKind kRingbufKind = {.type = BPF_MAP_TYPE_RINGBUF,
                              .name = "ringbuf",
                              .check_late = check,
                              .layout = layout,
                              .initialise = initialise,
                              .open = open,
                              .keyless = true,
                              .mmapable = true};

RingbufMap::RingbufMap(MapSegments segments, Machine& machine)
    : Map(std::move(segments), machine),
      control_(*reinterpret_cast<Control*>(segments_.control.data() + kControlOffset)),
      intents_(reinterpret_cast<Intent*>(&control_ + 1)),
      area_(segments_.user.data(), spec().max_entries),
      overwrites_((spec().flags & BPF_F_RB_OVERWRITE) != 0),
      lap_shift_(std::countr_zero(spec().max_entries)),
      bell_(control_.bell, machine_, header().file.id, false) {}

std::byte* RingbufMap::reserve_slowly(const Lease& lease, uint64_t size) {
  const uint64_t length = ringbuf::footprint(size);
  if (length > area_.size()) return nullptr;
  const uint64_t tag = lease.process().value;
  Intent& intent = intents_[lease.slot()];
  if (intent.owner.load(std::memory_order_relaxed) >> 32 != tag) {
    if (!settle_predecessor(intent)) return nullptr;
    intent.position.store(kNoPosition, std::memory_order_relaxed);
    intent.owner.store(tag << 32, std::memory_order_release);
  }
  while (make_room(lease, length)) {
    // Others may have been quicker.
    if (std::byte* const record = claim(intent, tag, size); record != nullptr) return record;
  }
  // What was tried before must not look like a reservation of this slot (R5).
  intent.position.store(kNoPosition, std::memory_order_release);
  return nullptr;
}

Status RingbufMap::output(const Lease& lease, const void* data, uint64_t size, uint64_t flags) {
  if ((flags & ~uint64_t{BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP}) != 0) return fail(EINVAL);
  std::byte* const record = reserve(lease, size);
  if (record == nullptr) return fail(EAGAIN);
  std::memcpy(record, data, size);
  submit(record, flags);
  return {};
}

void RingbufMap::finish(std::byte* record, uint64_t flags, uint32_t discard) {
  // The record may begin in the mirror only if its header is the data's last.
  std::byte* const header = record - ringbuf::kHeaderSize;
  auto& state = *reinterpret_cast<std::atomic<uint32_t>*>(header);
  const uint32_t length = state.load(std::memory_order_relaxed) & ringbuf::kLengthMask;
  commit(state, length | discard);  // COMMIT
  if ((flags & BPF_RB_FORCE_WAKEUP) == 0 && ((flags & BPF_RB_NO_WAKEUP) != 0 || !bell_.awaited())) [[likely]]
    return;
  notify(static_cast<uint64_t>(header - area_.data(0)) + ringbuf::kHeaderSize, flags);
}

void RingbufMap::notify(uint64_t offset, uint64_t flags) {
  // Adaptive: a consumer that is behind this record will come to it without being woken.
  const uint64_t consumer = area_.consumer().load(std::memory_order_acquire);
  if ((flags & BPF_RB_FORCE_WAKEUP) != 0 || (consumer & (area_.size() - 1)) == offset) bell_.ring();
}

uint64_t RingbufMap::query(uint64_t what) const {
  const uint64_t consumer = area_.consumer().load(std::memory_order_acquire);
  const uint64_t producer = area_.producer().load(std::memory_order_acquire);
  switch (what) {
    case BPF_RB_AVAIL_DATA: {
      const uint64_t overwritten = area_.overwritten().load(std::memory_order_acquire);
      return producer - (overwrites_ && static_cast<int64_t>(overwritten - consumer) > 0 ? overwritten : consumer);
    }
    case BPF_RB_RING_SIZE:
      return area_.size();
    case BPF_RB_CONS_POS:
      return consumer;
    case BPF_RB_PROD_POS:
      return producer;
    case BPF_RB_OVERWRITE_POS:
      return area_.overwritten().load(std::memory_order_acquire);
    default:
      return 0;
  }
}

// -- preparing room -------------------------------------------------------------------------------------------------

bool RingbufMap::lock_preparer(const Lease& lease) {
  const uint64_t mine = uint64_t{lease.process().value} << 32 | lease.slot() | 1U << 31;
  std::optional<Waiter> waiter;
  uint64_t waited_for = 0;
  for (;;) {
    uint64_t seen = 0;
    // Acquire pairs with the release in make_room().
    if (control_.preparer.compare_exchange_strong(seen, mine, std::memory_order_acquire)) return true;
    if (seen != waited_for) {
      waiter.emplace(machine_);
      waited_for = seen;
    }
    const ProcessTag holder{static_cast<uint32_t>(seen >> 32)};
    switch (waiter->wait(static_cast<uint32_t>(seen) & 0xffff, holder)) {
      case Waiter::Verdict::kHolderGone:
        // Filling again what the dead one may have filled changes nothing: the limit was not raised.
        if (control_.preparer.compare_exchange_strong(seen, mine, std::memory_order_acquire)) return true;
        break;
      case Waiter::Verdict::kTryAgain:
        break;
      default:
        return false;
    }
  }
}

bool RingbufMap::make_room(const Lease& lease, uint64_t length) {
  if (!lock_preparer(lease)) return false;
  SKEP_CRASH_POINT();
  const bool made = prepare(length);
  control_.preparer.store(0, std::memory_order_release);
  return made;
}

bool RingbufMap::prepare(uint64_t length) {
  const uint64_t producer = area_.producer().load(std::memory_order_acquire);
  const uint64_t limit = control_.limit.load(std::memory_order_relaxed);
  if (limit - producer <= area_.size() && limit - producer >= length) return true;
  const uint64_t pending = pass_finished(area_.pending().load(std::memory_order_relaxed), producer);
  commit(area_.pending(), pending);
  uint64_t free_from = area_.consumer().load(std::memory_order_acquire);
  if (producer + length - pending > area_.size() - 1) return false;
  if (overwrites_) {
    free_from = give_way(area_.overwritten().load(std::memory_order_relaxed), pending, producer + length);
    commit(area_.overwritten(), free_from);
  }
  if (producer - free_from > producer - pending) {
    if (producer - free_from > area_.size()) return false;  // a consumer position that never was
  } else {
    free_from = pending;
  }
  const uint64_t end = free_from + area_.size() - 8;
  if (static_cast<int64_t>(end - producer) < static_cast<int64_t>(length)) return false;
  // A producer position that a client wrote may lie outside what was prepared: begin there again.
  const uint64_t begin = limit - producer <= area_.size() ? limit : producer;
  const uint64_t wanted = std::max(producer + length, begin + kBatch);
  const uint64_t raised = end - producer < wanted - producer ? end : wanted;
  if (raised - begin > area_.size()) return false;
  fill(begin, raised);
  commit(control_.limit, raised);  // pairs with the acquire load in reserve()
  return true;
}

/// The first record at or after `position` that is not finished.
uint64_t RingbufMap::pass_finished(uint64_t position, uint64_t end) {
  if (end - position > area_.size()) return end;
  while (position != end) {
    // Acquire: what the owner wrote is done before the room is given to somebody else.
    const uint64_t header = area_.header(position).load(std::memory_order_acquire);
    if ((header & ringbuf::kBusy) != 0) {
      if (!abandoned(position, header, end)) break;
      continue;  // it has another header now
    }
    const uint64_t length = ringbuf::footprint(static_cast<uint32_t>(header) & ringbuf::kLengthMask);
    if (length > end - position) break;
    position += length;
  }
  return position;
}

/// The first record from `position` on that may stay when producers go on to `wanted`; busy ones stay.
uint64_t RingbufMap::give_way(uint64_t position, uint64_t pending, uint64_t wanted) const {
  if (pending - position > area_.size()) position = pending;  // made up by a client
  while (position != pending && wanted - position > area_.size() - 1) {
    const uint32_t state = area_.state(position).load(std::memory_order_relaxed);
    const uint64_t length = ringbuf::footprint(state & ringbuf::kLengthMask);
    if (length > pending - position) break;
    position += length;
  }
  return position;
}

void RingbufMap::fill(uint64_t from, uint64_t to) {
  while (from != to) {
    const uint64_t end = from + std::min(to - from, area_.size() - (from & (area_.size() - 1)));
    const uint64_t header = nameless(from);
    for (; from < end; from += 8) area_.header(from).store(header, std::memory_order_relaxed);
    from = end;
  }
}

// -- the dead -------------------------------------------------------------------------------------------------------

/// Makes a busy record of a dead process a discarded one. False: it has a living owner. `end`: a producer position.
bool RingbufMap::abandoned(uint64_t position, uint64_t header, uint64_t end) {
  uint64_t length = header & ringbuf::kLengthMask;
  const ProcessTag owner{static_cast<uint32_t>(header >> 32)};
  if (owner.value == 0) {
    if (header != nameless(position)) return false;
    length = length_of_nameless(position, end);
    if (length == 0) return false;
    length -= 1;
  } else if (owner == machine_.self() || machine_.alive(owner)) {
    return false;
  }
  const uint64_t discarded = (header & ~uint64_t{UINT32_MAX}) | ringbuf::kDiscard | length;
  // Fails when somebody else did it, or the owner was quicker than its death: then the header is looked at again.
  area_.header(position).compare_exchange_strong(header, discarded, std::memory_order_acq_rel);
  SKEP_CRASH_POINT();
  return true;
}

/// One more than the length of the record that a dead process reserved at `position` without naming itself; 0: its
/// owner may be alive, or has named itself meanwhile.
uint64_t RingbufMap::length_of_nameless(uint64_t position, uint64_t end) const {
  uint64_t found = 0;
  bool fits = false;
  for (uint32_t slot = 0; slot < machine_.slots(); ++slot) {
    const Intent& intent = intents_[slot];
    // Acquire pairs with the releases in claim(): the owner belongs to this position, or to a later one; then the
    // header is seen to be named.
    if (intent.position.load(std::memory_order_acquire) != position) continue;
    const uint64_t owner = intent.owner.load(std::memory_order_acquire);
    const ProcessTag tag{static_cast<uint32_t>(owner >> 32)};
    if (tag.value == 0) continue;
    if (tag == machine_.self() || machine_.alive(tag)) return 0;
    // Several may have died wanting this place: the one that got it is that behind which the next record begins.
    const uint64_t length = owner & ringbuf::kLengthMask;
    const bool fits_too = chain_ends(position + ringbuf::footprint(length), end);
    if (found == 0 || (fits_too && !fits)) {
      found = length + 1;
      fits = fits_too;
    }
  }
  return area_.header(position).load(std::memory_order_acquire) == nameless(position) ? found : 0;
}

/// Whether records follow each other from `position` to `end`. What lies inside a record seldom looks like that:
/// prepared room that nobody asked for, or data where a header would have an owner.
bool RingbufMap::chain_ends(uint64_t position, uint64_t end) const {
  while (position != end) {
    if (end - position > area_.size()) return false;
    const uint64_t header = area_.header(position).load(std::memory_order_acquire);
    if (header == nameless(position)) return wanted(position);
    const uint64_t length = ringbuf::footprint(static_cast<uint32_t>(header) & ringbuf::kLengthMask);
    if (header >> 32 == 0 || length > end - position) return false;
    position += length;
  }
  return true;
}

/// Whether any slot's holder tried to reserve there.
bool RingbufMap::wanted(uint64_t position) const {
  return std::any_of(intents_, intents_ + machine_.slots(),
                     [&](const Intent& intent) { return intent.position.load(std::memory_order_acquire) == position; });
}

/// The slot has a new tenant: if the last one died before it named its record, that is discarded while its Intent is
/// still there. False: somebody alive wants the same place and has not gone on, so whose it is cannot be told yet.
bool RingbufMap::settle_predecessor(const Intent& intent) {
  const uint64_t position = intent.position.load(std::memory_order_acquire);
  if (position == kNoPosition || intent.owner.load(std::memory_order_relaxed) >> 32 == 0) return true;
  for (int patience = 100; patience > 0; --patience) {
    const uint64_t producer = area_.producer().load(std::memory_order_acquire);
    if (producer - position - 1 >= area_.size()) return true;
    const uint64_t header = area_.header(position).load(std::memory_order_acquire);
    if (header != nameless(position) || abandoned(position, header, producer)) return true;
    std::this_thread::yield();
  }
  return false;
}

void RingbufMap::help_consumer() {
  const uint64_t consumer = area_.consumer().load(std::memory_order_acquire);
  const uint64_t producer = area_.producer().load(std::memory_order_acquire);
  if (consumer % 8 != 0 || producer - consumer - 1 >= area_.size()) return;
  for (uint64_t position = consumer; position != producer;) {
    const uint64_t header = area_.header(position).load(std::memory_order_acquire);
    if ((header & ringbuf::kBusy) == 0 || !abandoned(position, header, producer)) return;
  }
}

// -- checking -------------------------------------------------------------------------------------------------------

CheckReport RingbufMap::check() const {
  CheckReport report;
  const uint64_t consumer = area_.consumer().load(std::memory_order_acquire);
  const uint64_t producer = area_.producer().load(std::memory_order_acquire);
  const uint64_t pending = area_.pending().load(std::memory_order_acquire);
  const uint64_t limit = control_.limit.load(std::memory_order_acquire);
  const uint64_t from = overwrites_ ? area_.overwritten().load(std::memory_order_acquire) : consumer;
  if (producer - pending > area_.size()) {
    report.problem = "R2: the pending position lies more than a lap behind the producer's";
  } else if (producer - from > area_.size()) {
    report.problem = "the consumer position is none that the ring ever had";
  } else if (limit < producer || limit - pending > area_.size()) {
    report.problem = "R2: the limit lies before the producer position, or more than a lap before a record in use";
  }
  for (uint64_t position = from; report.problem.empty() && position != producer;) {
    const uint32_t state = area_.state(position).load(std::memory_order_acquire);
    if ((state & ringbuf::kBusy) != 0) {
      if (position < pending) report.problem = "R4: a busy record lies before the pending position";
      break;
    }
    const uint64_t length = ringbuf::footprint(state & ringbuf::kLengthMask);
    if (length > producer - position) report.problem = "a record reaches over the producer position";
    report.elements += (state & ringbuf::kDiscard) == 0;
    position += length;
  }
  for (uint64_t position = producer; report.problem.empty() && position < limit; position += 8) {
    if (area_.header(position).load(std::memory_order_acquire) != nameless(position)) {
      report.problem = "R1: prepared room is not";
    }
  }
  report.free_elements = area_.size() - (producer - from);
  return report;
}

}  // namespace skep
