// SPDX-License-Identifier: Apache-2.0
// Ring buffers: producers and the one consumer.
#include <poll.h>
#include <skep/abi.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "capi/handles.h"
#include "machine/lease.h"
#include "maps/ringbuf_map.h"
#include "object/instance.h"

namespace skep {
namespace {

using Clock = std::chrono::steady_clock;

/// The ring behind a handle, or null and why: EINVAL: it is none; EPERM: the handle is read-only.
RingbufMap* ring_of(const skep_map* map, int& error) {
  error = map->map->spec().type != BPF_MAP_TYPE_RINGBUF ? -EINVAL : !map->writable ? -EPERM : 0;
  return error == 0 ? static_cast<RingbufMap*>(map->map.get()) : nullptr;
}

/// Whether the record that the consumer has come to is finished.
bool has_record(const RingbufMap& ring) {
  const RingbufArea& area = ring.area();
  const uint64_t position = area.consumer().load(std::memory_order_relaxed);
  // Acquire: pairs with the compare-and-swap of the producer, after which the header is not that of an older record.
  if (position == area.producer().load(std::memory_order_acquire)) return false;
  return (area.state(position).load(std::memory_order_acquire) & ringbuf::kBusy) == 0;  // pairs with finish()
}

int64_t consume(RingbufMap& ring, uint64_t most, int (*record)(void*, void*, uint64_t), void* context) {
  const RingbufArea& area = ring.area();
  int64_t consumed = 0;
  while (static_cast<uint64_t>(consumed) < most) {
    if (!has_record(ring)) {
      ring.help_consumer();
      if (!has_record(ring)) break;
    }
    const uint64_t position = area.consumer().load(std::memory_order_relaxed);
    const uint32_t state = area.state(position).load(std::memory_order_acquire);
    const uint64_t length = state & ringbuf::kLengthMask;
    const uint64_t end = position + ringbuf::footprint(length);
    if (end - position > area.producer().load(std::memory_order_acquire) - position) return -EIO;
    const int verdict = (state & ringbuf::kDiscard) != 0 ? 0 : record(context, area.data(position), length);
    consumed += (state & ringbuf::kDiscard) == 0;
    // Release: pairs with the producers' acquire load, who write over what was read.
    area.consumer().store(end, std::memory_order_release);
    if (verdict < 0) return verdict;
  }
  return consumed;
}

/// Sleeps until a record is finished; whoever finishes the one that the consumer waits for rings.
int wait(RingbufMap& ring, int milliseconds) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(std::max(milliseconds, 0));
  const FileDescriptor bell(ring.bell().open());
  if (bell.get() < 0) return -errno;
  for (;;) {
    ring.help_consumer();
    ring.bell().tell(bell.get(), [&ring] { return has_record(ring); });
    if (has_record(ring)) return 1;
    int64_t left = RingbufBell::kLookAgain;
    if (milliseconds >= 0) {
      left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
      if (left <= 0) return 0;
    }
    pollfd waiting{.fd = bell.get(), .events = POLLIN, .revents = 0};
    const int slept = ::poll(&waiting, 1, static_cast<int>(std::min<int64_t>(left, RingbufBell::kLookAgain)));
    if (slept < 0) return -errno;
  }
}

}  // namespace
}  // namespace skep

int skep_ringbuf_reserve(skep_map* map, uint64_t size, void** record) {
  return skep::guarded([&] {
    int error = 0;
    skep::RingbufMap* const ring = skep::ring_of(map, error);
    if (ring == nullptr) return error;
    const skep::Lease lease(ring->machine());
    *record = ring->reserve(lease, size);
    return *record != nullptr ? 0 : -EAGAIN;
  });
}

void skep_ringbuf_submit(skep_map* map, void* record, uint64_t flags) {
  static_cast<skep::RingbufMap*>(map->map.get())->submit(static_cast<std::byte*>(record), flags);
}

void skep_ringbuf_discard(skep_map* map, void* record, uint64_t flags) {
  static_cast<skep::RingbufMap*>(map->map.get())->discard(static_cast<std::byte*>(record), flags);
}

int skep_ringbuf_output(skep_map* map, const void* data, uint64_t size, uint64_t flags) {
  return skep::guarded([&] {
    int error = 0;
    skep::RingbufMap* const ring = skep::ring_of(map, error);
    if (ring == nullptr) return error;
    const skep::Lease lease(ring->machine());
    return skep::to_code(ring->output(lease, data, size, flags));
  });
}

int64_t skep_ringbuf_consume(skep_map* map, uint64_t most, int (*record)(void* context, void* data, uint64_t size),
                             void* context) {
  return skep::guarded([&]() -> int64_t {
    int error = 0;
    skep::RingbufMap* const ring = skep::ring_of(map, error);
    if (ring == nullptr) return error;
    if ((ring->spec().flags & BPF_F_RB_OVERWRITE) != 0) return -EOPNOTSUPP;
    return skep::consume(*ring, most, record, context);
  });
}

int skep_ringbuf_wait(skep_map* map, int milliseconds) {
  return skep::guarded([&] {
    int error = 0;
    skep::RingbufMap* const ring = skep::ring_of(map, error);
    return ring == nullptr ? error : skep::wait(*ring, milliseconds);
  });
}
