// SPDX-License-Identifier: Apache-2.0
// Sockets as owners: their cookies, which the kernel never gives twice.
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "machine/kernel_objects.h"
#include "storage/owner_source.h"
#include "storage/trace_text.h"

namespace skep {
namespace {

int option_of(int fd, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

/// The lists of sockets among which this one stands; 0: the kernel shows none.
uint32_t families_of(int fd) {
  switch (option_of(fd, SO_DOMAIN)) {
    case AF_UNIX:
      return kUnixSockets;
    case AF_XDP:
      return kXdpSockets;
    case AF_INET:
    case AF_INET6:
      if (option_of(fd, SO_TYPE) == SOCK_DGRAM) return kUdpSockets;
      if (option_of(fd, SO_TYPE) == SOCK_STREAM) return kTcpSockets;
      return 0;
    default:
      return 0;
  }
}

Result<OwnerIdentity> resolve(int fd) {
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) return fail(errno);
  return OwnerIdentity{.kind = OwnerKind::kSocket, .words = {cookie, 0, 0}};
}

OwnerTrace trace(int fd) {
  char text[128];
  std::snprintf(text, sizeof text, "%d %d %u %s", static_cast<int>(::getpid()), fd, families_of(fd),
                descriptor_path(::getpid(), fd).c_str());
  return make_trace(own_namespace("net"), text);
}

/// Whoever used the socket first had it under a number: as long as that one has it there, it lives. Else the kernel's
/// lists are asked.
bool gone(const OwnerIdentity& identity, const OwnerTrace& trace) {
  const std::string text = text_of(trace);
  int process = 0;
  int fd = -1;
  unsigned families = 0;
  char link[64] = "";
  if (std::sscanf(text.c_str(), "%d %d %u %63s", &process, &fd, &families, link) != 4) return false;
  if (families == 0 || descriptor_path(process, fd) == link) return false;
  return trace.space == own_namespace("net") && !socket_exists(identity.words[0], families);
}

}  // namespace

const OwnerSource kSocketOwners = {.kind = OwnerKind::kSocket, .resolve = resolve, .trace = trace, .gone = gone};

}  // namespace skep
