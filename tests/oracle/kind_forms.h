// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include <cstdint>
#include <span>

namespace skep::oracle {

/// The attributes of a small map of each kind that the kernel creates.
struct KindForm {
  const char* name;
  uint32_t type;
  uint32_t key_size;
  uint32_t value_size;
  uint32_t max_entries;
  uint32_t flags = 0;
  bool of_maps = false;    // inner_map_fd names a template
  bool needs_btf = false;  // refused as it stands, for want of BTF
};

/// Every kind of Linux 6.18; the kinds of maps that differ by their flags more than once.
std::span<const KindForm> kind_forms();

/// False for a kind that skep leaves to later versions: its creation is EINVAL whatever the attributes.
bool skep_has(uint32_t type);

}  // namespace skep::oracle
