// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dirent.h>
#include <dlfcn.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>

#include <atomic>
#include <cerrno>
#include <type_traits>

namespace skep::preload {

/// The definition of a function that the program would have called without this library: libc's, or that of another
/// preloaded library. Found on first use or by resolve(), whichever comes first; constant afterwards.
template <class Signature>
class Real {
 public:
  consteval explicit Real(const char* name) : name_(name) {}

  /// Calls it. A libc that has no such function answers ENOSYS.
  template <class... Arguments>
  auto operator()(Arguments... arguments) const {
    Signature* function = function_.load(std::memory_order_relaxed);  // constant once set: nothing to order
    if (function == nullptr) [[unlikely]]
      function = resolve();
    using Return = decltype(function(arguments...));
    if (function == nullptr) [[unlikely]] {
      errno = ENOSYS;
      if constexpr (std::is_same_v<Return, void*>) {
        return MAP_FAILED;  // mmap() and mremap() are the only ones
      } else if constexpr (std::is_pointer_v<Return>) {
        return Return{nullptr};
      } else {
        return static_cast<Return>(-1);
      }
    }
    return function(arguments...);
  }

  /// Looks the function up. dlsym() may take the loader's lock, which is why the library does this for every function
  /// at start instead of in a signal handler or between fork and exec.
  Signature* resolve() const {
    auto* function = reinterpret_cast<Signature*>(dlsym(RTLD_NEXT, name_));
    function_.store(function, std::memory_order_relaxed);
    return function;
  }

 private:
  const char* name_;
  mutable std::atomic<Signature*> function_{nullptr};
};

/// Every function of libc that this library takes, by its own name.
namespace real {
#define SKEP_REAL(name, ...) inline constinit Real<__VA_ARGS__> name{#name};
#include "preload/real_functions.inc"
#undef SKEP_REAL
}  // namespace real

/// Resolves all of them.
void resolve_real_functions();

}  // namespace skep::preload
