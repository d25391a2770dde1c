// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "guarded_arena.h"
#include "side.h"

namespace skep::oracle {

/// One buffer that an attr points to.
struct Buffer {
  unsigned attr_offset;          // of the 8-byte pointer field
  std::vector<uint8_t> content;  // before the call; the same length is compared after it
  uint64_t raw_address = 0;      // with `raw`: this address instead of a buffer (NULL, kernel memory, ...)
  bool raw = false;
  enum class Raw { kAsGiven, kForbidden, kReadOnly } raw_kind = Raw::kAsGiven;
  std::vector<std::pair<unsigned, unsigned>> ignored = {};  // [from, to) that may differ: ids
};

/// A descriptor field to fill with each side's own descriptor.
struct DescriptorField {
  unsigned attr_offset;
  enum class Kind { kMap, kBtf } kind;
  uint32_t number;  // logical number of the object
};

/// One bpf(2) call, in terms that both sides understand.
struct Operation {
  int command = 0;
  std::vector<uint8_t> attr;  // `size` bytes (or fewer when size is absurd)
  unsigned size = 0;
  bool null_attr = false;
  std::vector<Buffer> buffers;
  std::vector<DescriptorField> descriptors;
  bool returns_descriptor = false;
  /// What of the outcome must agree.
  enum class Compare {
    kEverything,   // result, errno, attr written back, every byte of every buffer
    kResult,       // result and errno
    kSortedBatch,  // as kEverything, but keys and values of a batch in any order
    kNothing,
  } compare = Compare::kEverything;
  uint32_t batch_key_size = 0, batch_value_size = 0;  // for kSortedBatch
  unsigned ignore_attr_from = 0, ignore_attr_to = 0;  // attr bytes that may differ (descriptors, pointers)

  [[nodiscard]] bool has_raw_pointer() const;
  [[nodiscard]] std::string describe() const;
};

/// What one side answered.
struct Outcome {
  int result = 0;
  int error = 0;  // errno when result is -1
  std::vector<uint8_t> attr;
  std::vector<std::vector<uint8_t>> buffers;
};

Outcome execute(const Operation& operation, const Side& side, GuardedArena& arena);

/// Empty when the outcomes agree as operation.compare asks, else what differs.
std::string difference(const Operation& operation, const Outcome& kernel, const Outcome& skep);

}  // namespace skep::oracle
