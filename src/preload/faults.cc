// SPDX-License-Identifier: Apache-2.0
#include "preload/faults.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "preload/arena_mappings.h"
#include "preload/export.h"
#include "preload/real.h"
#include "syscall/user_memory.h"

// Order of the handlers of one signal, once skep serves: the kernel calls that of skep's user-memory copies, which
// passes what is not its own to the one below, which does what the program's own action says. The program sees and
// changes that action only; it never learns of the two in front.

namespace skep::preload {
namespace {

/// What the program wants to happen. Guarded by ActionLock.
using ProgramAction = struct sigaction;
ProgramAction segv_action;
ProgramAction bus_action;
constexpr int kOnce = static_cast<int>(SA_RESETHAND);
std::atomic<bool> taken{false};  // release after both actions were recorded, pairs with the acquire in sigaction()

/// Blocks every signal for its life, so that no handler of this thread can meet the lock taken.
class ActionLock {
 public:
  ActionLock() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
    while (locked_.test_and_set(std::memory_order_acquire)) {
    }
  }
  ActionLock(const ActionLock&) = delete;
  ActionLock& operator=(const ActionLock&) = delete;
  ~ActionLock() {
    locked_.clear(std::memory_order_release);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  static inline std::atomic_flag locked_;
  sigset_t before_;
};

ProgramAction* action_of(int signal) {
  switch (signal) {
    case SIGSEGV:
      return &segv_action;
    case SIGBUS:
      return &bus_action;
    default:
      return nullptr;
  }
}

/// Ends the process by `signal` as if no handler had ever been there: a fault happens again when the handler returns,
/// a signal that was sent is sent again.
void die_of(int signal, const siginfo_t& info) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  real::sigaction(signal, &action, nullptr);
  if (info.si_code <= 0) raise(signal);
}

void pass_to_program(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const bool unallocated = signal == SIGBUS && info->si_code > 0 && is_unallocated_page(info->si_addr);
  if (unallocated) {
    signal = SIGSEGV;
    info->si_signo = SIGSEGV;
    info->si_code = SEGV_MAPERR;
  }
  ProgramAction action;
  {
    const ActionLock lock;
    ProgramAction* program = action_of(signal);
    action = *program;
    if ((action.sa_flags & kOnce) != 0) program->sa_handler = SIG_DFL;
  }
  if (unallocated && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)) {
    info->si_code = SI_USER;  // to be raised: the same instruction would make a SIGBUS again
    return die_of(signal, *info);
  }
  if (action.sa_handler == SIG_DFL) return die_of(signal, *info);
  if (action.sa_handler == SIG_IGN) {
    // Linux lets nobody ignore a fault of his own instruction.
    if (info->si_code > 0) die_of(signal, *info);
    return;
  }
  // The return from the handler restores the mask.
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&action.sa_mask, signal);
  pthread_sigmask(SIG_BLOCK, &action.sa_mask, nullptr);
  errno = saved_errno;
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(signal, info, context);
  } else {
    action.sa_handler(signal);
  }
}

/// Changes and shows the program's action without touching the kernel's.
void exchange(ProgramAction& program, const struct sigaction* action, struct sigaction* old) {
  const ActionLock lock;
  const ProgramAction before = program;
  if (action != nullptr) program = *action;
  if (old != nullptr) *old = before;
}

__sighandler_t exchange_handler(int signal, __sighandler_t handler, int flags) {
  struct sigaction action = {};
  struct sigaction old = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  return sigaction(signal, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

}  // namespace

void take_fault_signals() {
  static const bool once = [] {
    for (const int signal : {SIGSEGV, SIGBUS}) {
      struct sigaction action = {};
      action.sa_sigaction = pass_to_program;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
      sigemptyset(&action.sa_mask);
      real::sigaction(signal, &action, action_of(signal));
    }
    taken.store(true, std::memory_order_release);
    install_user_fault_handlers();
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace skep::preload

using namespace skep::preload;

SKEP_TAKES int sigaction(int signal, const struct sigaction* action, struct sigaction* old) noexcept {
  ProgramAction* program = action_of(signal);
  if (program == nullptr || !taken.load(std::memory_order_acquire)) return real::sigaction(signal, action, old);
  exchange(*program, action, old);
  return 0;
}

SKEP_TAKES __sighandler_t signal(int signal, __sighandler_t handler) noexcept {
  if (action_of(signal) == nullptr) return real::signal(signal, handler);
  return exchange_handler(signal, handler, SA_RESTART);
}
SKEP_TAKES_ALSO(ssignal, signal);

SKEP_TAKES __sighandler_t sysv_signal(int signal, __sighandler_t handler) noexcept {
  if (action_of(signal) == nullptr) return real::sysv_signal(signal, handler);
  return exchange_handler(signal, handler, kOnce | SA_NODEFER);
}
SKEP_TAKES_ALSO(__sysv_signal, sysv_signal);
