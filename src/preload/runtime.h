// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace skep {
struct Process;
}

namespace skep::preload {

/// This process's side of the instance, opened at the first call. Null if skep cannot start here: the first such call
/// says why on stderr, every one leaves ENOSYS in errno, and the program goes on. Any thread.
Process* start();

/// After an ENOMEM: tells the user once, on stderr, what is full and which variable moves it. Keeps errno.
void explain_no_memory();

/// Whether start() has succeeded before. One load.
bool serving();

/// Where the instance lies, as the kernel names it: no symbolic links in it.
struct Places {
  std::string directory;  // the instance
  std::string pins;       // what programs see as /sys/fs/bpf
};

/// Where the instance lies; null if there is none yet. Does not make one.
const Places* find_places();

/// The same, making the instance where there is none; null: start() has failed, errno is ENOSYS.
const Places* make_places();

}  // namespace skep::preload
