// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace skep {

// What maps know of the kernel's devices, sockets and cgroups by number, asked of the kernel anew each time: nothing
// here keeps any of them alive. Any thread; each call costs some system calls.

/// Whether the network namespace of this thread has a device of that number. True where it cannot be told.
bool device_exists(uint32_t ifindex);

/// Where to look for a socket.
enum SocketFamilies : uint32_t { kTcpSockets = 1, kUdpSockets = 2, kUnixSockets = 4, kXdpSockets = 8 };

/// Whether the network namespace of this thread has an open socket with that cookie (SO_COOKIE) in one of the families:
/// one that some process still has a descriptor of, and a TCP one that is not closed by its peers. True where it cannot
/// be told. Reads the list of those sockets.
bool socket_exists(uint64_t cookie, uint32_t families);

/// The ids of the cgroup (of the unified hierarchy) that a thread is in and of all above it, outermost first, as far
/// as they can be seen through the mounted cgroup file system. 0: the calling thread. Empty where there is none.
std::vector<uint64_t> cgroups_of(pid_t thread);

/// A cgroup of the unified hierarchy.
struct FoundCgroup {
  std::string path;
  uint64_t device;            // of the hierarchy
  std::vector<uint64_t> ids;  // of all cgroups on the way from the root to it, itself included
};
/// The one with that id; none: it does not exist, or this process does not see it. Reads directories until it is found.
std::optional<FoundCgroup> find_cgroup(uint64_t id);

/// The process that a thread belongs to; 0: there is no such thread.
pid_t process_of(pid_t thread);

}  // namespace skep
