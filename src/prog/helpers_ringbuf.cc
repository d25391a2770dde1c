// SPDX-License-Identifier: Apache-2.0
#include <skep/abi.h>

#include <cerrno>

#include "maps/ringbuf_map.h"
#include "maps/user_ringbuf_map.h"
#include "prog/dynptr_arguments.h"
#include "prog/helpers.h"

namespace skep::helpers {
namespace {

/// The map argument as a map of that kind; null: it is another, and the run is stopped.
template <class Kind>
Kind* kind_argument(Run& run, uint64_t argument, uint32_t type) {
  Map* const map = memory<const MapBinding>(argument)->map.get();
  if (map->spec().type == type) return static_cast<Kind*>(map);
  run.stop(EINVAL, "the helper wants a map of another type");
  return nullptr;
}
RingbufMap* ring_argument(Run& run, uint64_t argument) {
  return kind_argument<RingbufMap>(run, argument, BPF_MAP_TYPE_RINGBUF);
}

std::byte* reserve(Run& run, RingbufMap& ring, uint64_t size) {
  std::byte* const data = ring.reserve(run.lease(), size);
  if (data != nullptr) run.records().opened({.ring = &ring, .data = data, .size = static_cast<uint32_t>(size)});
  return data;
}

/// Submits or discards what was reserved; the program may not touch it any more.
bool give_back(Run& run, std::byte* data, uint64_t flags, bool discard) {
  const Records::Open record = run.records().take(data);
  if (record.ring == nullptr) return false;
  run.revoke_memory(record.data, record.size);
  discard ? record.ring->discard(record.data, flags) : record.ring->submit(record.data, flags);
  return true;
}

uint64_t finish(Run& run, uint64_t sample, uint64_t flags, bool discard) {
  if (!give_back(run, memory<std::byte>(sample), flags, discard)) {
    run.stop(EINVAL, "the argument is not a record that the program reserved");
  }
  return 0;
}

uint64_t finish_dynptr(Run& run, uint64_t place, uint64_t flags, bool discard) {
  const Dynptr* const dynptr = dynptr_argument(run, place);
  if (dynptr == nullptr) return 0;
  if (dynptr->kind != Dynptr::Kind::kNull && dynptr->kind != Dynptr::Kind::kRecord) {
    run.stop(EINVAL, "the dynptr is not that of a ring buffer record");
    return 0;
  }
  if (dynptr->data != nullptr) give_back(run, dynptr->data, flags, discard);
  run.records().drop_dynptr(place);
  return 0;
}

}  // namespace

uint64_t ringbuf_output(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  RingbufMap* const ring = ring_argument(run, a);
  if (ring == nullptr) return 0;
  const Status status = ring->output(run.lease(), memory<const void>(b), c, d);
  return status ? 0 : error_value(to_int(status.error()));
}

uint64_t ringbuf_reserve(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  RingbufMap* const ring = ring_argument(run, a);
  if (ring == nullptr || c != 0) return 0;
  std::byte* const data = reserve(run, *ring, b);
  if (data != nullptr && b != 0) run.grant_memory(data, b);
  return reinterpret_cast<uint64_t>(data);
}

uint64_t ringbuf_submit(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return finish(run, a, b, false);
}
uint64_t ringbuf_discard(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return finish(run, a, b, true);
}

uint64_t ringbuf_query(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  const RingbufMap* const ring = ring_argument(run, a);
  return ring == nullptr ? 0 : ring->query(b);
}

uint64_t ringbuf_reserve_dynptr(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  RingbufMap* const ring = ring_argument(run, a);
  if (ring == nullptr || !may_become_dynptr(run, d)) return 0;
  const auto size = static_cast<uint32_t>(b);
  int error = c != 0 ? EINVAL : size > Dynptr::kMaxSize ? E2BIG : 0;
  std::byte* const data = error == 0 ? reserve(run, *ring, size) : nullptr;
  if (error == 0 && data == nullptr) error = EINVAL;
  // Also where it failed the program has something to submit or discard.
  run.records().make_dynptr(d, Dynptr::Kind::kRecord, data, data == nullptr ? 0 : size);
  return error_value(error);
}

uint64_t ringbuf_submit_dynptr(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return finish_dynptr(run, a, b, false);
}
uint64_t ringbuf_discard_dynptr(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return finish_dynptr(run, a, b, true);
}

uint64_t user_ringbuf_drain(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  auto* const ring = kind_argument<UserRingbufMap>(run, a, BPF_MAP_TYPE_USER_RINGBUF);
  if (ring == nullptr) return 0;
  const auto& callback = *memory<const FunctionEntry>(b);
  return static_cast<uint64_t>(ring->drain(run.lease(), d, [&](const UserRingbufMap::Sample& sample) {
    alignas(8) std::byte bytes[16];  // the program knows where they are, but they are no memory of its own
    const auto place = reinterpret_cast<uint64_t>(bytes);
    run.records().make_dynptr(place, Dynptr::Kind::kSample, sample.data, sample.size);
    const uint64_t verdict = run.call_function(callback, place, c, 0);
    run.records().drop_dynptr(place);
    run.revoke_memory(sample.data, sample.size);
    return verdict == 0 && run.stopped() == 0;
  }));
}

}  // namespace skep::helpers
