// SPDX-License-Identifier: Apache-2.0
#include "prog/records.h"

#include <algorithm>
#include <cstring>

namespace skep {

Records::Open Records::take(const std::byte* data) {
  const auto found = std::ranges::find(open_, data, &Open::data);
  if (found == open_.end()) return {};
  const Open record = *found;
  open_.erase(found);
  return record;
}

void Records::discard_all() {
  for (const Open& record : open_) record.ring->discard(record.data, 0);
  open_.clear();
}

bool Records::intact(const Dynptr& dynptr) {
  uint64_t words[2];
  std::memcpy(words, reinterpret_cast<const void*>(dynptr.place), sizeof words);
  return words[0] == dynptr.serial && words[1] == ~dynptr.serial;
}

void Records::make_dynptr(uint64_t place, Dynptr::Kind kind, std::byte* data, uint32_t size) {
  std::erase_if(dynptrs_, [=](const Dynptr& dynptr) { return dynptr.place == place; });
  // Of those on frames that have ended only the bytes are gone.
  if (dynptrs_.size() >= kManyDynptrs) std::erase_if(dynptrs_, [](const Dynptr& dynptr) { return !intact(dynptr); });
  const uint64_t words[2] = {++serial_, ~serial_};
  std::memcpy(reinterpret_cast<void*>(place), words, sizeof words);
  dynptrs_.push_back({.place = place, .serial = serial_, .data = data, .size = size, .kind = kind});
}

Dynptr* Records::find_dynptr(uint64_t place) {
  const auto found = std::ranges::find(dynptrs_, place, &Dynptr::place);
  return found != dynptrs_.end() && intact(*found) ? &*found : nullptr;
}

void Records::drop_dynptr(uint64_t place) {
  std::erase_if(dynptrs_, [=](const Dynptr& dynptr) { return dynptr.place == place; });
}

}  // namespace skep
