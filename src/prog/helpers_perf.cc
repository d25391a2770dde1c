// SPDX-License-Identifier: Apache-2.0
// Output into the rings of perf events, and what the events of a map count.
#include <skep/abi.h>

#include <cerrno>
#include <cstring>
#include <span>

#include "maps/reference_array_map.h"
#include "prog/helpers.h"
#include "prog/program_references.h"

namespace skep::helpers {
namespace {

constexpr uint64_t kIndexMask = 0xffffffff;          // BPF_F_INDEX_MASK; all of it: BPF_F_CURRENT_CPU
constexpr uint64_t kContextMask = 0xfffffULL << 32;  // BPF_F_CTXLEN_MASK

struct PerfEventValue {
  uint64_t counter, enabled, running;
};
static_assert(sizeof(PerfEventValue) == 24);

using Bytes = std::span<const std::byte>;

/// The event that the flags mean, or why there is none.
struct Entry {
  const ReadyEvent* event = nullptr;
  uint64_t word = 0;
  int error = 0;
};
Entry find_entry(Run& run, const MapBinding& binding, uint64_t flags) {
  if (binding.values != ValueMeaning::kPerfEvent || binding.references == nullptr) {
    run.stop(EINVAL, "the map of the helper is not of type PERF_EVENT_ARRAY");
    return {.error = EINVAL};
  }
  uint64_t index = flags & kIndexMask;
  if (index == kIndexMask) index = run.lease().cpu();
  if (index >= binding.references->spec().max_entries) return {.error = E2BIG};
  const uint64_t word = binding.references->word(static_cast<uint32_t>(index));
  ProgramReferences* const references = run.environment().references;
  if (word == 0 || references == nullptr) return {.error = ENOENT};
  const ReadyEvent* const event = references->event(static_cast<uint32_t>(word));
  if (event == nullptr || event->ended(binding.id, word)) return {.error = ENOENT};
  return {.event = event, .word = word, .error = 0};
}

uint64_t output(Run& run, const MapBinding& binding, uint64_t flags, Bytes data, Bytes context) {
  const Entry entry = find_entry(run, binding, flags);
  if (entry.event == nullptr) return error_value(entry.error);
  int error = entry.event->event->output(run.lease(), data, context);
  if (error == 0) [[likely]]
    return 0;
  // Full: perhaps nobody reads it any more.
  if (error == ENOSPC && run.environment().references->entry_ended(binding, *entry.event, entry.word)) error = ENOENT;
  return error_value(error);
}

int read_event(Run& run, const MapBinding& binding, uint64_t flags, PerfEventValue& value) {
  if ((flags & ~kIndexMask) != 0) return EINVAL;
  const Entry entry = find_entry(run, binding, flags);
  if (entry.event == nullptr) return entry.error;
  if (entry.event->event->spec().cpu != run.lease().cpu()) return EINVAL;
  const PerfEvent::Times times = entry.event->event->times();
  value = {.counter = 0, .enabled = times.enabled, .running = times.running};
  return 0;
}

}  // namespace

uint64_t perf_event_output(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  const auto& binding = *memory<const MapBinding>(b);
  const Bytes data(memory<const std::byte>(d), e);
  const PacketBuffer* const packet = run.skb() != nullptr   ? &run.skb()->packet
                                     : run.xdp() != nullptr ? &run.xdp()->packet
                                                            : nullptr;
  if (packet == nullptr) {
    if ((c & ~kIndexMask) != 0) return error_value(EINVAL);
    return output(run, binding, c, data, {});
  }
  if ((c & ~(kIndexMask | kContextMask)) != 0) return error_value(EINVAL);
  const uint64_t length = (c & kContextMask) >> 32;
  if (length > packet->length()) return error_value(EFAULT);
  return output(run, binding, c, data, Bytes(packet->data, length));
}

uint64_t perf_event_read(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  PerfEventValue value{};
  const int error = read_event(run, *memory<const MapBinding>(a), b, value);
  return error == 0 ? value.counter : error_value(error);
}

uint64_t perf_event_read_value(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  PerfEventValue value{};
  const int error = d == sizeof value ? read_event(run, *memory<const MapBinding>(a), b, value) : EINVAL;
  if (error != 0) {
    std::memset(memory<void>(c), 0, d);
    return error_value(error);
  }
  std::memcpy(memory<void>(c), &value, sizeof value);
  return 0;
}

}  // namespace skep::helpers
