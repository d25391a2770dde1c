// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "syscall/caller.h"

namespace skep {

/// What reading a pinned map gives, as Linux 6.18 prints it: two lines of warning, then the elements in the order of
/// GET_NEXT_KEY, by the types of the map's BTF. `fd` is open for reading and need be no reference. Each element is
/// whole; the text as a whole is of no single moment. EIO: not a map, a map without BTF, or of a kind that the kernel
/// does not print (all but arrays, hashes, program arrays and cgroup storage).
Result<std::string> map_text(Process& process, int fd);

}  // namespace skep
