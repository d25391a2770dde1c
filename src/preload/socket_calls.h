// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

namespace skep::preload {

/// accept(2) and accept4(2) as programs get them.
int accept_cloned(int listener, sockaddr* address, socklen_t* length);
int accept_cloned(int listener, sockaddr* address, socklen_t* length, int flags);

}  // namespace skep::preload
