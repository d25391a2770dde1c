// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
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

/// What start() gave, null before it succeeded. One load.
extern constinit std::atomic<Process*> the_process;  // the release in start() pairs with the acquire here
inline Process* running_process() { return the_process.load(std::memory_order_acquire); }
inline bool serving() { return running_process() != nullptr; }

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
