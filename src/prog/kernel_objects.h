// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
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

/// The ids of the cgroup (of the unified hierarchy) that this thread is in and of all above it, outermost first, as far
/// as they can be seen through the mounted cgroup file system. Empty where there is none.
std::vector<uint64_t> own_cgroups();

}  // namespace skep
