// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace skep {

/// The text that an iterator's program writes, element by element. Its address is the program's `struct seq_file`.
/// One thread.
class SequenceText {
 public:
  /// Bytes that one element may write, Linux 6.18's buffer: what would fill it does not fit.
  static constexpr size_t kMaxPerElement = (size_t{32} << 10) - 1;

  /// What was written so far stays; what comes belongs to another element.
  void begin_element() { begin_ = text_.size(); }
  /// False: more than one element may write; nothing more is taken for this one.
  bool append(std::string_view more);
  /// The element wrote more than it may.
  [[nodiscard]] bool overflowed() const { return overflowed_; }
  /// Takes back what was written for this element.
  void drop_element();
  /// The text of all elements that was not cleared away yet.
  [[nodiscard]] const std::string& text() const { return text_; }
  /// Forgets the text, which somebody has.
  void clear();

 private:
  std::string text_;
  size_t begin_ = 0;  // of the element in text_
  bool overflowed_ = false;
};

}  // namespace skep
