// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/storage_clones.h"
#include "syscall/caller.h"

namespace skep {

/// The socket `accepted` comes from accept(2) on `listener`: it gets what the listener has in the maps of socket
/// storage with BPF_F_CLONE, as Linux does for TCP. Borrows both descriptors. Only worth a call if
/// StorageClones::any(). ENOMEM: the socket may not have so much; what it has got so far stays.
Status clone_socket_storage(Process& process, int listener, int accepted);

}  // namespace skep
