// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdarg>
#include <cstdint>
#include <string>

namespace skep {

/// What a load command tells its caller: the text behind btf_log_buf and log_buf. Collects; the command decides how
/// much of it fits into the caller's buffer. One thread at a time.
class VerifierLog {
 public:
  static constexpr uint32_t kLevel1 = 1;                 // what is wrong, and a summary
  static constexpr uint32_t kLevel2 = 2;                 // more of it
  static constexpr uint32_t kStats = 4;                  // numbers about the check itself
  static constexpr uint32_t kFixed = 8;                  // a full buffer keeps the beginning; without it, the end
  static constexpr uint32_t kMaxSize = UINT32_MAX >> 2;  // bytes of a buffer

  explicit VerifierLog(uint32_t level) : level_(level) {}

  /// Whether text is wanted at all: build none when not.
  [[nodiscard]] bool wanted() const { return level_ != 0; }
  [[nodiscard]] uint32_t level() const { return level_; }
  void print(const char* format, ...) __attribute__((format(printf, 2, 3)));
  [[nodiscard]] const std::string& text() const { return text_; }
  /// Bytes that a buffer for the whole text needs, its end included; 0 for no text ("log_true_size").
  [[nodiscard]] uint32_t true_size() const { return text_.empty() ? 0 : static_cast<uint32_t>(text_.size() + 1); }

 private:
  void append(const char* format, va_list arguments);

  uint32_t level_;
  std::string text_;
};

}  // namespace skep
