// SPDX-License-Identifier: Apache-2.0
// accept(2) and accept4(2): what a listener has in storage with BPF_F_CLONE goes to the sockets that it accepts. Costs
// one load where the process has used no such map.

#include "preload/socket_calls.h"

#include <unistd.h>

#include <cerrno>

#include "preload/export.h"
#include "preload/real.h"
#include "preload/runtime.h"
#include "syscall/process.h"
#include "syscall/socket_clone.h"

using namespace skep::preload;

namespace {

/// Whether the accepted socket may be given to the program. Else the connection is reset, as Linux does.
bool clone(int listener, int accepted) {
  skep::Process* process = running_process();
  if (process == nullptr || skep::clone_socket_storage(*process, listener, accepted)) return true;
  const linger reset = {.l_onoff = 1, .l_linger = 0};
  static_cast<void>(::setsockopt(accepted, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
  real::close(accepted);
  return false;
}

/// accept() until a socket comes that could be given what its listener has. `length` as the caller left it each time.
template <class Call>
int accept_with(const Call& call, int listener, const sockaddr* address, socklen_t* length) {
  if (!skep::StorageClones::any()) [[likely]]
    return call();
  const socklen_t room = address != nullptr && length != nullptr ? *length : 0;
  for (;;) {
    const int accepted = call();
    if (accepted < 0) return accepted;
    const int saved_errno = errno;
    const bool cloned = clone(listener, accepted);
    errno = saved_errno;
    if (cloned) return accepted;
    if (address != nullptr && length != nullptr) *length = room;
  }
}

}  // namespace

int skep::preload::accept_cloned(int listener, sockaddr* address, socklen_t* length) {
  return accept_with([&] { return real::accept(listener, address, length); }, listener, address, length);
}

int skep::preload::accept_cloned(int listener, sockaddr* address, socklen_t* length, int flags) {
  return accept_with([&] { return real::accept4(listener, address, length, flags); }, listener, address, length);
}

SKEP_TAKES int accept(int listener, sockaddr* address, socklen_t* length) {
  return accept_cloned(listener, address, length);
}

SKEP_TAKES int accept4(int listener, sockaddr* address, socklen_t* length, int flags) {
  return accept_cloned(listener, address, length, flags);
}
