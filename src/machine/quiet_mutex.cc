// SPDX-License-Identifier: Apache-2.0
#include "machine/quiet_mutex.h"

namespace skep {
namespace {

// Of the calling thread. Written with its signals blocked.
[[gnu::tls_model("initial-exec")]] constinit thread_local unsigned t_sections = 0;
[[gnu::tls_model("initial-exec")]] thread_local sigset_t t_before;

}  // namespace

sigset_t QuietSection::signals() {
  sigset_t set;
  sigfillset(&set);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) sigdelset(&set, fault);
  return set;
}

void QuietSection::begin() {
  if (t_sections == 0) {
    const sigset_t set = signals();
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, &set, &before);
    t_before = before;
  }
  ++t_sections;
}

void QuietSection::end() {
  if (--t_sections == 0) {
    const sigset_t before = t_before;  // a handler that runs as soon as they are unblocked has sections of its own
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
}

}  // namespace skep
