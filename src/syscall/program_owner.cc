// SPDX-License-Identifier: Apache-2.0
#include "syscall/program_owner.h"

namespace skep {
namespace {

// MapHeader::owner:  63 decided | 49 sleepable | 48 xdp frags | 32..47 attach type | 0..31 type
constexpr uint64_t kDecided = uint64_t{1} << 63;
constexpr uint64_t kSleepable = uint64_t{1} << 49;
constexpr uint64_t kFrags = uint64_t{1} << 48;

}  // namespace

ProgramOwner ProgramOwner::of(const ProgramImage& image) {
  return {.type = image.facts.type,
          .expected_attach_type = image.facts.expected_attach_type & 0xffff,
          .xdp_has_frags = (image.facts.flags & BPF_F_XDP_HAS_FRAGS) != 0,
          .sleepable = (image.facts.flags & BPF_F_SLEEPABLE) != 0};
}

uint64_t ProgramOwner::word() const {
  return kDecided | (sleepable ? kSleepable : 0) | (xdp_has_frags ? kFrags : 0) | uint64_t{expected_attach_type} << 32 |
         type;
}

bool fits_owner(MapHeader& map, const ProgramImage& image) {
  const uint64_t mine = ProgramOwner::of(image).word();
  uint64_t owner = 0;
  // One word that says all there is to know: nothing to order.
  return map.owner.compare_exchange_strong(owner, mine, std::memory_order_relaxed) || owner == mine;
}

std::optional<ProgramOwner> owner_of(const MapHeader& map) {
  const uint64_t word = map.owner.load(std::memory_order_relaxed);
  if (word == 0) return std::nullopt;
  return ProgramOwner{.type = static_cast<uint32_t>(word),
                      .expected_attach_type = static_cast<uint32_t>(word >> 32) & 0xffff,
                      .xdp_has_frags = (word & kFrags) != 0,
                      .sleepable = (word & kSleepable) != 0};
}

}  // namespace skep
