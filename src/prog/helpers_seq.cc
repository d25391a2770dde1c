// SPDX-License-Identifier: Apache-2.0
// What iterators write with.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "prog/helpers.h"
#include "prog/print_format.h"
#include "prog/sequence_text.h"

namespace skep {

namespace helpers {
namespace {

constexpr size_t kMaxArguments = 12;

/// The text that the program's first argument stands for; null: it is something else, and the run is over.
SequenceText* sequence_at(Run& run, uint64_t address) {
  SequenceText* sequence = run.environment().sequence;
  if (sequence != nullptr && reinterpret_cast<uint64_t>(sequence) == address) return sequence;
  run.stop(EINVAL, "the first argument is not the seq_file of the context");
  return nullptr;
}

uint64_t append(SequenceText& sequence, std::string_view text) {
  return sequence.append(text) ? 0 : error_value(EOVERFLOW);
}

}  // namespace

uint64_t seq_printf(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  SequenceText* sequence = sequence_at(run, a);
  if (sequence == nullptr) return 0;
  if (e % sizeof(uint64_t) != 0 || e > kMaxArguments * sizeof(uint64_t)) return error_value(EINVAL);
  std::array<uint64_t, kMaxArguments> arguments{};
  if (e != 0) std::memcpy(arguments.data(), memory<const void>(d), e);
  const std::string format(memory<const char>(b), c);
  const size_t end = format.find('\0');
  if (end == std::string::npos) return error_value(EINVAL);
  std::string text(SequenceText::kMaxPerElement + 1, '\0');
  const int64_t length = format_print(text.data(), text.size(), std::string_view(format).substr(0, end),
                                      std::span(arguments).first(e / sizeof(uint64_t)));
  if (length < 0) return static_cast<uint64_t>(length);
  text.resize(std::min(static_cast<size_t>(length), text.size()));
  return append(*sequence, text);
}

uint64_t seq_write(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  SequenceText* sequence = sequence_at(run, a);
  return sequence == nullptr ? 0 : append(*sequence, {memory<const char>(b), c});
}

}  // namespace helpers
}  // namespace skep
