// SPDX-License-Identifier: Apache-2.0
#include "prog/regions.h"

#include <algorithm>

namespace skep {

Regions::Regions() { grants_.reserve(kFirstLimit); }

uint8_t value_rights(const MapBinding& binding) {
  uint8_t rights = 0;
  if (binding.readable) rights |= Region::kRead;
  if (binding.writable) rights |= Region::kWrite;
  if (binding.readable && binding.writable) rights |= Region::kAtomic;
  if (binding.has_fields) rights |= Region::kFields;
  return rights;
}

void Regions::reset(const DecodedCode& code, Region stack) {
  stack_ = stack;
  packet_ = {};
  grants_.clear();
  direct_values_.clear();
  add_direct_values(code);
}

void Regions::add_direct_values(const DecodedCode& code) {
  for (const DirectValue& direct : code.direct_values) {
    direct_values_.push_back({.start = direct.address,
                              .length = direct.length,
                              .binding = direct.binding,
                              .rights = value_rights(*direct.binding)});
  }
}

const Region* Regions::find_fixed(uint64_t address, uint64_t size) const {
  if (packet_.covers(address, size)) return &packet_;
  for (const Region& direct : direct_values_) {
    if (direct.covers(address, size)) return &direct;
  }
  return nullptr;
}

void Regions::collect(std::span<const std::span<const uint64_t>> roots) {
  uint64_t low = UINT64_MAX;
  uint64_t high = 0;
  for (Region& grant : grants_) {
    grant.live = false;
    low = std::min(low, grant.start);
    high = std::max(high, grant.start + grant.length);
  }
  for (const auto& words : roots) {
    for (const uint64_t word : words) {
      if (word < low || word > high) continue;
      for (Region& grant : grants_) grant.live = grant.live || word - grant.start <= grant.length;
    }
  }
  std::erase_if(grants_, [](const Region& grant) { return !grant.live; });
  limit_ = std::max(kFirstLimit, grants_.size() * 2);
  grants_.reserve(limit_);
}

}  // namespace skep
