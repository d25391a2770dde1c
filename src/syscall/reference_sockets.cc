// SPDX-License-Identifier: Apache-2.0
// Sockets in maps: the values of XSKMAP, SOCKMAP, SOCKHASH and REUSEPORT_SOCKARRAY. A word is the socket's cookie. The
// entry keeps nothing alive: a socket that is closed is gone, as in the kernel.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <climits>
#include <cstring>

#include "machine/kernel_objects.h"
#include "machine/lease.h"
#include "syscall/reference_kinds.h"

namespace skep {
namespace {

/// A socket of the client, as far as it can be asked.
class ClientSocket {
 public:
  /// EBADF, ENOTSOCK.
  static Result<ClientSocket> of(int fd) {
    ClientSocket socket(fd);
    if (socket.option(SOL_SOCKET, SO_COOKIE, socket.cookie_) != 0) return fail(errno);
    socket.domain_ = socket.number(SO_DOMAIN);
    socket.type_ = socket.number(SO_TYPE);
    socket.protocol_ = socket.number(SO_PROTOCOL);
    return socket;
  }
  [[nodiscard]] uint64_t cookie() const { return cookie_; }
  [[nodiscard]] int domain() const { return domain_; }
  [[nodiscard]] bool is_inet() const { return domain_ == AF_INET || domain_ == AF_INET6; }
  [[nodiscard]] bool is_tcp() const { return is_inet() && type_ == SOCK_STREAM && protocol_ == IPPROTO_TCP; }
  [[nodiscard]] bool is_udp() const { return is_inet() && type_ == SOCK_DGRAM && protocol_ == IPPROTO_UDP; }
  [[nodiscard]] bool is_unix(int type) const { return domain_ == AF_UNIX && type_ == type; }
  [[nodiscard]] int tcp_state() const {
    tcp_info info{};
    return option(IPPROTO_TCP, TCP_INFO, info) == 0 ? info.tcpi_state : 0;
  }
  [[nodiscard]] bool connected() const {
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    return ::getpeername(fd_, reinterpret_cast<sockaddr*>(&peer), &length) == 0;
  }
  [[nodiscard]] bool listens() const { return number(SO_ACCEPTCONN) != 0; }
  [[nodiscard]] bool shares_port() const { return number(SO_REUSEPORT) != 0; }
  [[nodiscard]] bool bound() const {
    sockaddr_in6 own{};  // the port stands at the same place for both families
    socklen_t length = sizeof own;
    return ::getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &length) == 0 && own.sin6_port != 0;
  }

 private:
  explicit ClientSocket(int fd) : fd_(fd) {}
  template <class T>
  int option(int level, int name, T& value) const {
    socklen_t length = sizeof value;
    return ::getsockopt(fd_, level, name, &value, &length);
  }
  [[nodiscard]] int number(int name) const {
    int value = 0;
    return option(SOL_SOCKET, name, value) == 0 ? value : 0;
  }

  int fd_;
  uint64_t cookie_ = 0;
  int domain_ = 0, type_ = 0, protocol_ = 0;
};

/// What may be in a SOCKMAP or SOCKHASH: what can be redirected to.
Status check_stream(const ClientSocket& socket) {
  if (socket.is_tcp()) {
    const int state = socket.tcp_state();
    return state == TCP_ESTABLISHED || state == TCP_LISTEN ? Status{} : Status(fail(EOPNOTSUPP));
  }
  const bool ready = socket.is_udp()               ? socket.bound()
                     : socket.is_unix(SOCK_STREAM) ? socket.connected()
                                                   : socket.is_unix(SOCK_DGRAM);
  return ready ? Status{} : Status(fail(EOPNOTSUPP));
}

/// Whether a live entry of the map is that socket: it may be in one array only, and in one entry of it.
bool contains(Process& process, const OpenObject& map, uint64_t cookie) {
  const Lease lease(process.machine);
  bool found = false;
  (void)map.map->for_each(lease, [&](const void*, const void* value) {
    found |= std::memcmp(value, &cookie, sizeof cookie) == 0;
    return found ? Visit::kStop : Visit::kContinue;
  });
  return found;
}

Status check_reuseport(Process& process, const OpenObject& map, const ClientSocket& socket) {
  if (!socket.is_tcp() && !socket.is_udp()) return fail(kEnotsupp);
  const bool ready = socket.is_tcp() ? socket.listens() : socket.bound();
  if (!ready || !socket.shares_port()) return fail(EINVAL);
  return contains(process, map, socket.cookie()) ? Status(fail(EBUSY)) : Status{};
}

/// The descriptor in a client's value. EINVAL: no number of a descriptor.
Result<int> descriptor_of(const OpenObject& map, const void* value) {
  if (map.map->spec().value_size == sizeof(uint64_t)) {
    uint64_t fd;
    std::memcpy(&fd, value, sizeof fd);
    return fd <= INT_MAX ? Result<int>(static_cast<int>(fd)) : fail(EINVAL);
  }
  int fd;
  std::memcpy(&fd, value, sizeof fd);
  const bool signed_descriptor = map.type == BPF_MAP_TYPE_XSKMAP || map.type == BPF_MAP_TYPE_REUSEPORT_SOCKARRAY;
  return fd >= 0 || signed_descriptor ? Result<int>(fd) : fail(EINVAL);
}

Result<Reference> resolve(Process& process, const OpenObject& map, const void* value) {
  const Result<int> fd = descriptor_of(map, value);
  if (!fd) return std::unexpected(fd.error());
  const Result<ClientSocket> socket = ClientSocket::of(*fd);
  if (!socket) return std::unexpected(socket.error());
  Status allowed;
  if (map.type == BPF_MAP_TYPE_XSKMAP) {
    if (socket->domain() != AF_XDP) allowed = fail(EOPNOTSUPP);
  } else if (map.type == BPF_MAP_TYPE_REUSEPORT_SOCKARRAY) {
    allowed = check_reuseport(process, map, *socket);
  } else {
    allowed = check_stream(*socket);
  }
  if (!allowed) return std::unexpected(allowed.error());
  return Reference{.word = socket->cookie(), .held = {}, .file = {}};
}

Status check_lookup(const OpenObject& map) {
  if (map.type == BPF_MAP_TYPE_XSKMAP) return fail(EOPNOTSUPP);
  return map.map->spec().value_size == sizeof(uint64_t) ? Status{} : Status(fail(ENOSPC));
}

Status show(Process&, const OpenObject&, uint64_t word, void* to) {
  std::memcpy(to, &word, sizeof word);
  return {};
}

bool alive(const OpenObject& map, uint64_t word) {
  switch (map.type) {
    case BPF_MAP_TYPE_XSKMAP:
      return socket_exists(word, kXdpSockets);
    case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY:
      return socket_exists(word, kTcpSockets | kUdpSockets);
    default:
      return socket_exists(word, kTcpSockets | kUdpSockets | kUnixSockets);
  }
}

}  // namespace

constinit const ReferenceKind kSocketReferences = {.meaning = ValueMeaning::kSocket,
                                                   .resolve = resolve,
                                                   .show = show,
                                                   .held = nullptr,
                                                   .check_lookup = check_lookup,
                                                   .alive = alive};

}  // namespace skep
