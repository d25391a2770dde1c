// SPDX-License-Identifier: Apache-2.0
#include "syscall/user_memory.h"

#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include <mutex>

namespace skep {
namespace {

#if defined(__x86_64__)

struct sigaction previous_segv, previous_bus;

void pass_on(int signal, siginfo_t* info, void* context) {
  const struct sigaction& previous = signal == SIGBUS ? previous_bus : previous_segv;
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
    // The faulting instruction runs again and then meets the default action, as it would have without us.
    struct sigaction default_action {};
    default_action.sa_handler = SIG_DFL;
    ::sigaction(signal, &default_action, nullptr);
    if (info->si_code <= 0) ::raise(signal);  // sent by somebody: it will not come again by itself
  } else {
    previous.sa_handler(signal);
  }
}

/// Whether the instruction is one of a SKEP_USER_MOVES, which then goes on with the carry flag set.
bool recover_move(ucontext_t& context) {
  greg_t& instruction = context.uc_mcontext.gregs[REG_RIP];
  for (const SkepUserMoves* moves = __start_skep_user_moves; moves != __stop_skep_user_moves; ++moves) {
    const greg_t begin = reinterpret_cast<greg_t>(&moves->begin) + moves->begin;
    const greg_t end = reinterpret_cast<greg_t>(&moves->end) + moves->end;
    if (instruction < begin || instruction >= end) continue;
    constexpr greg_t kCarryFlag = 1;
    context.uc_mcontext.gregs[REG_EFL] |= kCarryFlag;
    instruction = end;
    return true;
  }
  return false;
}

void on_fault(int signal, siginfo_t* info, void* context) {
  if (!recover_user_fault(signal, *info, context)) pass_on(signal, info, context);
}

#else

int copy_by_kernel(void* local, uint64_t user, size_t size, decltype(&process_vm_readv) transfer) {
  const iovec here{local, size};
  const iovec there{reinterpret_cast<void*>(user), size};
  return transfer(::getpid(), &here, 1, &there, 1, 0) == static_cast<ssize_t>(size) ? 0 : -1;
}

#endif

}  // namespace

#if defined(__x86_64__)

void install_user_fault_handlers() {
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGSEGV, &action, &previous_segv);
    ::sigaction(SIGBUS, &action, &previous_bus);
    return true;
  }();
  (void)installed;
}

bool recover_user_fault(int signal, const siginfo_t& info, void* ucontext) {
  if ((signal != SIGSEGV && signal != SIGBUS) || info.si_code <= 0) return false;
  auto* context = static_cast<ucontext_t*>(ucontext);
  greg_t& instruction = context->uc_mcontext.gregs[REG_RIP];
  if (instruction < reinterpret_cast<greg_t>(skep_user_copy_begin) ||
      instruction >= reinterpret_cast<greg_t>(skep_user_copy_end))
    return recover_move(*context);
  instruction = reinterpret_cast<greg_t>(skep_user_copy_fault);
  return true;
}

int64_t read_user_string(char* to, uint64_t user, size_t capacity) {
  if (!plausible_user_range(user, 1)) return -1;
  const int64_t copied = skep_user_copy_string(to, reinterpret_cast<const char*>(user), capacity);
  return copied > 0 ? copied - 1 : copied;
}

#else  // other machines: let the kernel do the copying, at the price of a system call

void install_user_fault_handlers() {}
bool recover_user_fault(int, const siginfo_t&, void*) { return false; }

bool read_user(void* to, uint64_t user, size_t size) {
  return size == 0 || (plausible_user_range(user, size) && copy_by_kernel(to, user, size, &process_vm_readv) == 0);
}

bool write_user(uint64_t user, const void* from, size_t size) {
  return size == 0 || (plausible_user_range(user, size) &&
                       copy_by_kernel(const_cast<void*>(from), user, size, &process_vm_writev) == 0);
}

int64_t read_user_string(char* to, uint64_t user, size_t capacity) {
  for (size_t length = 0; length < capacity; ++length) {
    if (!read_user(to + length, user + length, 1)) return -1;
    if (to[length] == '\0') return static_cast<int64_t>(length);
  }
  return -2;
}

#endif

}  // namespace skep
