// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/bpf.h>

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <utility>

namespace skep {
inline namespace v0 {

/// Why an operation failed: Linux's errno (and 524, ENOTSUPP, where a kind of map has no such operation), and a
/// sentence for a human.
struct Error {
  int code = 0;
  std::string message;
};

template <class T>
using Expected = std::expected<T, Error>;

namespace detail {

inline std::string describe_errno(int code) {
  return code == SKEP_ENOTSUPP ? "this kind of map has no such operation" : std::strerror(code);
}

/// The error of an operation that returned -code.
[[nodiscard]] inline std::unexpected<Error> failure(int code) {
  return std::unexpected(Error{code, describe_errno(code)});
}

/// The same with what skep_last_error() has to say about it; `what` names what was tried.
[[nodiscard]] inline std::unexpected<Error> explained_failure(int code, std::string what) {
  const char* sentence = skep_last_error();
  what += ": ";
  what += *sentence != '\0' ? sentence : describe_errno(code);
  return std::unexpected(Error{code, std::move(what)});
}

}  // namespace detail
}  // namespace v0
}  // namespace skep
