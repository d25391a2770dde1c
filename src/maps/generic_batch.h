// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/map.h"

namespace skep {

/// BPF_MAP_LOOKUP_BATCH for the kinds whose cursor is simply the last key returned (arrays, tries, maps of maps): walks
/// next_key() and lookup() of `map`. A key that vanishes between the two is skipped. Delivering exactly what remains
/// returns 0; ENOENT comes, with the partial count, when fewer than `capacity` were left. The cursor is written when at
/// least one element was delivered; EFAULT from the sink reports a count of 0, as the kernel does. EINTR: more keys
/// vanished one after the other than could by writers alone, so that the map is damaged.
BatchResult generic_lookup_batch(const Map& map, const void* in_cursor, void* out_cursor, uint32_t capacity,
                                 uint64_t flags, BatchSink& sink);

}  // namespace skep
