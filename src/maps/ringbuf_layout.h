// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cerrno>

#include "machine/crash_point.h"
#include "maps/map.h"
#include "maps/ringbuf_area.h"

namespace skep {

/// What both kinds of ring buffers ask of their attributes. EINVAL.
inline Status check_ringbuf(const MapSpec& spec, uint32_t flags) {
  if ((spec.flags & ~flags) != 0 || spec.key_size != 0 || spec.value_size != 0 || spec.fields.any() ||
      !std::has_single_bit(spec.max_entries) || spec.max_entries % kPageSize != 0) {
    return fail(EINVAL);
  }
  return {};
}

/// All of a ring exists from its creation on, so that no access by anybody can fail.
inline MapLayout layout_ringbuf(const MapSpec& spec, uint64_t control_size) {
  MapLayout layout;
  layout.user_size = RingbufArea::user_size(spec.max_entries);
  layout.private_size = kControlOffset + control_size;
  layout.reserve_user = true;
  layout.reserve[0] = {.offset = 0, .length = layout.private_size};
  return layout;
}

}  // namespace skep
