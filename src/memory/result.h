// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <string_view>

namespace skep {

/// A Linux errno value, positive. Linux's internal ENOTSUPP (524) leaks out of bpf(2), so it is one of them.
enum class Errno : int {};

inline constexpr int kEnotsupp = 524;

/// What every operation that can fail returns. Recoverable errors travel here; broken invariants assert.
template <class T>
using Result = std::expected<T, Errno>;
using Status = Result<void>;

[[nodiscard]] inline std::unexpected<Errno> fail(int error) { return std::unexpected(Errno{error}); }
[[nodiscard]] constexpr int to_int(Errno error) { return static_cast<int>(error); }

/// Fails like fail(error) and leaves a sentence for a human, which skep_last_error() returns on this thread.
[[nodiscard]] std::unexpected<Errno> fail_because(int error, std::string sentence);

/// The sentence of the last fail_because() of this thread; clear_last_error() empties it.
const char* last_error_sentence();
void clear_last_error();

}  // namespace skep
