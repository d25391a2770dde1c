// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syscall/fd_table.h"

namespace skep {

/// Whether it is known where clients map the arena. The preload library sees the first mapping as it is made; a plain
/// mmap(2) of this process is found here, in what the host tells about its mappings.
bool find_arena_window(const OpenObject& object);

}  // namespace skep
