// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "memory/file_header.h"

namespace skep {

/// The kinds that are files with an id, in the order in which they are collected: holders before what they hold.
inline constexpr ObjectKind kFileKinds[] = {ObjectKind::kLink, ObjectKind::kProgram, ObjectKind::kMap, ObjectKind::kBtf,
                                            ObjectKind::kPerfEvent};

/// The directory of a kind. bpftool tells kinds of descriptors by these words in their path.
const char* kind_directory(ObjectKind kind);

/// The names of one object, in buffers of its own: no allocation.
class ObjectName {
 public:
  ObjectName(ObjectKind kind, uint32_t id);
  /// "bpf-map/12", relative to the instance.
  [[nodiscard]] const char* path() const { return path_; }
  /// "bpf-map-12", its name in `holds`.
  [[nodiscard]] const char* flat() const { return flat_; }
  /// "holds/bpf-map-12": the directory of what it holds.
  [[nodiscard]] const char* holds() const { return holds_; }

 private:
  char path_[32];
  char flat_[32];
  char holds_[40];
};

/// A positive decimal number without leading zeros.
std::optional<uint32_t> parse_id(std::string_view text);
/// "bpf-map-12" back into what it names; likewise "bpf-map-12.3", one of several links (entry_holds.h).
std::optional<std::pair<ObjectKind, uint32_t>> parse_flat_name(std::string_view name);

}  // namespace skep
