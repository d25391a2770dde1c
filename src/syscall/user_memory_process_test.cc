// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <thread>
#include <vector>

#include "syscall/user_memory.h"

namespace skep {
namespace {

sigjmp_buf jump;

TEST(UserMemoryDeathTest, ASignalThatWasSentIsNoFault) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        ::alarm(60);  // the signals would be waited for
        static std::atomic<int> seen;
        ::signal(SIGSEGV, [](int) { ++seen; });
        install_user_fault_handlers();
        constexpr int kSignals = 300;
        std::atomic<bool> whole{true};
        std::jthread copier([&] {
          std::vector<char> from(1 << 16), to(1 << 16);
          const auto source = reinterpret_cast<uint64_t>(from.data());
          while (seen < kSignals) whole = whole && read_user(to.data(), source, from.size());
        });
        for (int sent = 0; sent < kSignals; ++sent) {
          ::pthread_kill(copier.native_handle(), SIGSEGV);
          while (seen <= sent) std::this_thread::yield();
        }
        copier.join();
        ::_exit(whole ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(UserMemoryDeathTest, AFaultOfTheProgramItselfStillKillsIt) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_EXIT(
      {
        ::signal(SIGSEGV, SIG_DFL);
        install_user_fault_handlers();
        *reinterpret_cast<volatile char*>(uintptr_t{4096}) = 1;
      },
      testing::KilledBySignal(SIGSEGV), "");
#endif
}

TEST(UserMemoryDeathTest, HandlersThatWereThereBeforeAreCalled) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        ::signal(SIGSEGV, [](int) { siglongjmp(jump, 1); });
        install_user_fault_handlers();
        char byte;
        if (read_user(&byte, 4096, 1)) ::_exit(1);
        if (sigsetjmp(jump, 1) == 0) *reinterpret_cast<volatile char*>(uintptr_t{4096}) = 1;
        ::_exit(42);
      },
      testing::ExitedWithCode(42), "");
}

TEST(UserMemoryDeathTest, HandlersInstalledLaterAskFirst) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        install_user_fault_handlers();
        struct sigaction action {};
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        action.sa_sigaction = [](int signal, siginfo_t* info, void* context) {
          if (!recover_user_fault(signal, *info, context)) ::_exit(43);
        };
        ::sigaction(SIGSEGV, &action, nullptr);
        char byte;
        if (read_user(&byte, 4096, 1)) ::_exit(1);
        *reinterpret_cast<volatile char*>(uintptr_t{4096}) = 1;
      },
      testing::ExitedWithCode(43), "");
}

}  // namespace
}  // namespace skep
