// SPDX-License-Identifier: Apache-2.0
#include "maps/generic_batch.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include "maps/batch_runs.h"
#include "skep/abi.h"

namespace skep {

BatchResult generic_lookup_batch(const Map& map, const void* in_cursor, void* out_cursor, uint32_t capacity,
                                 uint64_t flags, BatchSink& sink) {
  if ((flags & ~uint64_t{BPF_F_LOCK}) != 0) return {.error = EINVAL};
  if ((flags & BPF_F_LOCK) != 0 && map.spec().fields.spin_lock == ValueFields::kNone) return {.error = EINVAL};
  if (capacity == 0) return {};

  const uint32_t key_size = map.spec().key_size;
  std::vector<std::byte> previous(key_size);
  if (in_cursor != nullptr) std::memcpy(previous.data(), in_cursor, key_size);
  bool started = in_cursor != nullptr;
  int error = 0;
  BatchRuns runs(map, capacity, sink);
  constexpr uint32_t kMostVanished = 1000;
  uint32_t vanished = 0;  // since the last key that was there
  for (uint32_t count = 0; count < capacity;) {
    if (auto next = map.next_key(started ? previous.data() : nullptr, runs.key()); !next) {
      error = to_int(next.error());
      break;
    }
    std::memcpy(previous.data(), runs.key(), key_size);
    started = true;
    if (auto found = map.lookup(previous.data(), runs.value(), flags); !found) {
      const bool is_gone = to_int(found.error()) == ENOENT;
      if (is_gone && ++vanished <= kMostVanished) continue;
      error = is_gone ? EINTR : to_int(found.error());
      break;
    }
    vanished = 0;
    ++count;
    if (!runs.push()) return {.error = EFAULT};
  }
  if (!runs.flush()) return {.error = EFAULT};
  const uint32_t count = runs.delivered();
  if (count > 0) std::memcpy(out_cursor, previous.data(), key_size);
  return {.count = count, .error = error, .cursor_written = count > 0};
}

}  // namespace skep
