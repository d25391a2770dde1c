// SPDX-License-Identifier: Apache-2.0
#include "prog/sequence_text.h"

namespace skep {

bool SequenceText::append(std::string_view more) {
  if (overflowed_ || text_.size() - begin_ + more.size() > kMaxPerElement) {
    overflowed_ = true;
    return false;
  }
  text_.append(more);
  return true;
}

void SequenceText::drop_element() {
  text_.resize(begin_);
  overflowed_ = false;
}

void SequenceText::clear() {
  text_.clear();
  begin_ = 0;
}

}  // namespace skep
