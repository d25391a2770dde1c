// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "object/instance.h"

namespace skep {

/// A file in memory that is written piece by piece and then only read.
class TextFile {
 public:
  /// ENOMEM, EMFILE.
  static Result<TextFile> make(const char* name);
  /// ENOMEM.
  Status append(std::string_view text);
  /// A descriptor of the whole, from its start, read-only and close-on-exec.
  [[nodiscard]] Result<FileDescriptor> finish() const;

 private:
  explicit TextFile(FileDescriptor writer) : writer_(std::move(writer)) {}
  FileDescriptor writer_;
};

}  // namespace skep
