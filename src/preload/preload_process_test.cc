// SPDX-License-Identifier: Apache-2.0
// What a program sees of libskep-preload.so. The test program runs itself again with the library preloaded and an
// instance of its own; nothing of skep is linked into it. Answers are those that Linux 6.18 gives for a real bpffs.

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <linux/perf_event.h>
#include <mntent.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <skep/abi.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "preload/preloaded_test_support.h"

namespace skep::preloaded {
namespace {

TEST(Mounts, HaveABpffs) {
  FILE* mounts = setmntent("/proc/mounts", "r");
  ASSERT_NE(mounts, nullptr);
  bool found = false;
  while (const mntent* entry = getmntent(mounts)) {
    found |= std::string(entry->mnt_dir) == kRoot && std::string(entry->mnt_type) == "bpf";
  }
  endmntent(mounts);
  EXPECT_TRUE(found);
  EXPECT_NE(read_stream(fopen("/proc/self/mounts", "r")).find(" /sys/fs/bpf bpf "), std::string::npos);
  EXPECT_EQ(mount("bpf", kRoot, "bpf", 0, nullptr), 0);
  EXPECT_EQ(error_of(mount("bpf", "/sys/fs/bpf/none", "bpf", 0, nullptr)), ENOENT);
  EXPECT_EQ(error_of(mount("bpf", "/dev/shm", "bpf", 0, nullptr)), EPERM);
}

TEST(Descriptors, SayWhatTheyAre) {
  const int map = make_map();
  const std::string number = std::to_string(map);
  EXPECT_EQ(read_link("/proc/self/fd/" + number), "anon_inode:bpf-map");
  EXPECT_EQ(read_link("/proc/" + std::to_string(getpid()) + "/fd/" + number), "anon_inode:bpf-map");
  EXPECT_EQ(read_link("/dev/fd/" + number), "anon_inode:bpf-map");
  const std::string text = read_stream(fopen(("/proc/self/fdinfo/" + number).c_str(), "r"));
  EXPECT_NE(text.find("map_id:\t" + std::to_string(id_of(map)) + "\n"), std::string::npos) << text;
  EXPECT_NE(text.find("max_entries:\t4\n"), std::string::npos) << text;
  const int null = open("/dev/null", O_RDONLY);
  EXPECT_EQ(read_link("/proc/self/fd/" + std::to_string(null)), "/dev/null");
  const std::string other = read_stream(fopen(("/proc/self/fdinfo/" + std::to_string(null)).c_str(), "r"));
  EXPECT_EQ(other.find("map_id"), std::string::npos);
  EXPECT_NE(other.find("pos:"), std::string::npos);
  close(null);

  // Another process looks.
  EXPECT_EQ(in_child([&] {
              const std::string parent = "/proc/" + std::to_string(getppid());
              if (read_link(parent + "/fd/" + number) != "anon_inode:bpf-map") return 1;
              const std::string info = read_stream(fopen((parent + "/fdinfo/" + number).c_str(), "r"));
              return info.find("map_id:\t") != std::string::npos ? 0 : 2;
            }),
            0);
  close(map);
}

/// Closes `map` by `end`, gives its number to a map of other size, and asks that number.
template <class End>
void number_is_reused_after(const End& end) {
  const int first = make_map(BPF_MAP_TYPE_ARRAY, 4);
  const uint32_t old_value = 1;
  ASSERT_EQ(update(first, 0, &old_value), 0);
  end(first);
  uint32_t found[2] = {};
  EXPECT_EQ(error_of(lookup(first, 0, found)), EBADF);
  const int second = make_map(BPF_MAP_TYPE_ARRAY, 8);
  ASSERT_EQ(second, first);
  const uint32_t value[2] = {3, 4};
  ASSERT_EQ(update(second, 0, value), 0);
  ASSERT_EQ(lookup(second, 0, found), 0);
  EXPECT_EQ(found[1], 4U);
  close(second);
}

TEST(Descriptors, CanBeClosedInEveryWay) {
  number_is_reused_after([](int fd) { close(fd); });
  number_is_reused_after([](int fd) { syscall(SYS_close, fd); });
  number_is_reused_after([](int fd) { close_range(static_cast<unsigned>(fd), static_cast<unsigned>(fd), 0); });
  number_is_reused_after([](int fd) { syscall(SYS_close_range, fd, fd, 0); });
  number_is_reused_after([](int fd) { closefrom(fd); });
  number_is_reused_after([](int fd) { fclose(fdopen(fd, "r")); });
  number_is_reused_after([](int fd) {
    dup2(STDIN_FILENO, fd);
    uint32_t found = 0;
    EXPECT_EQ(error_of(lookup(fd, 0, &found)), EINVAL);
    close(fd);
  });
}

TEST(Descriptors, AreReplacedByDup) {
  const int first = make_map();
  const int second = make_map();
  const uint32_t value = 5;
  ASSERT_EQ(update(second, 1, &value), 0);
  uint32_t found = 0;
  ASSERT_EQ(lookup(first, 1, &found), 0);
  ASSERT_EQ(found, 0U);
  ASSERT_EQ(dup2(second, first), first);
  ASSERT_EQ(lookup(first, 1, &found), 0);
  EXPECT_EQ(found, value);
  const int third = make_map();
  ASSERT_EQ(dup3(third, first, O_CLOEXEC), first);
  ASSERT_EQ(lookup(first, 1, &found), 0);
  EXPECT_EQ(found, 0U);
  const int copy = fcntl(second, F_DUPFD_CLOEXEC, 100);
  ASSERT_GE(copy, 100);
  ASSERT_EQ(lookup(copy, 1, &found), 0);
  EXPECT_EQ(found, value);
  for (const int fd : {first, second, third, copy}) close(fd);
}

TEST(Descriptors, AreInheritedByForkAndSpawn) {
  const int map = make_map();
  const uint32_t value = 9;
  ASSERT_EQ(in_child([&] { return update(map, 3, &value) == 0 ? 0 : 1; }), 0);
  uint32_t found = 0;
  ASSERT_EQ(lookup(map, 3, &found), 0);
  EXPECT_EQ(found, value);

  const int inherited = dup(map);
  char number[16];
  snprintf(number, sizeof(number), "%d", inherited);
  char program[] = "/proc/self/exe";
  char mode[] = "--look-up-key-3";
  char* arguments[] = {program, mode, number, nullptr};
  pid_t child;
  ASSERT_EQ(posix_spawn(&child, program, nullptr, nullptr, arguments, environ), 0);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 9);
  close(inherited);
  close(map);
}

TEST(Descriptors, ThatAChildOfVforkClosesAreItsOwn) {
  const int ring = make_ring();
  ASSERT_GE(ring, 0);
  auto* consumed =
      static_cast<std::atomic<uint64_t>*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0));
  ASSERT_NE(consumed, MAP_FAILED);
  const int epoll = epoll_of(ring);
  ASSERT_GE(epoll, 0);
  epoll_event event;
  const pid_t child = vfork();
  if (child == 0) {
    close_range(3, ~0U, 0);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  *consumed = 8;  // what is not where the producer is can be read
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 2000), 1);
  *consumed = 0;
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  munmap(consumed, 4096);
  close(epoll);
  close(ring);
}

TEST(Descriptors, AreToldApartWhileThreadsReuseTheirNumbers) {
  // Each thread knows what its own maps hold; a stale number would show another thread's.
  std::atomic<int> wrong{0};
  {
    std::vector<std::jthread> threads;
    for (uint32_t self = 1; self <= 4; ++self) {
      threads.emplace_back([&wrong, self] {
        for (uint32_t round = 0; round < 400; ++round) {
          int map = make_map();
          const uint32_t value = self << 16 | round;
          uint32_t found = 0;
          if (update(map, 0, &value) != 0 || lookup(map, 0, &found) != 0 || found != value) ++wrong;
          if (round % 3 == 0) {
            const int other = make_map();
            if (dup2(map, other) != other || lookup(other, 0, &found) != 0 || found != value) ++wrong;
            close(map);
            map = other;
          }
          if (round % 50 == 0 && in_child([&] { return lookup(map, 0, &found) == 0 && found == value ? 0 : 1; }) != 0) {
            ++wrong;
          }
          if (round % 2 == 0) {
            close(map);
          } else {
            close_range(static_cast<unsigned>(map), static_cast<unsigned>(map), 0);
          }
        }
      });
    }
  }
  EXPECT_EQ(wrong, 0);
}

/// Has `signal` sent to this process again and again.
timer_t send_every(long nanoseconds, int signal) {
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = signal;
  timer_t timer;
  timer_create(CLOCK_MONOTONIC, &event, &timer);
  const itimerspec times = {.it_interval = {0, nanoseconds}, .it_value = {0, nanoseconds}};
  timer_settime(timer, 0, &times, nullptr);
  return timer;
}

void on_signal(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

volatile sig_atomic_t signals_seen = 0;
volatile sig_atomic_t handler_failures = 0;
int polled_by_handler = -1;

void close_poll_and_fork(int) {
  const int saved_errno = errno;
  signals_seen = signals_seen + 1;
  const int fd = dup(STDERR_FILENO);
  if (close(fd) != 0) handler_failures = handler_failures + 1;
  pollfd polled = {.fd = polled_by_handler, .events = POLLIN, .revents = 0};
  if (poll(&polled, 1, 0) != 0) handler_failures = handler_failures + 1;
  const pid_t child = fork();
  if (child == 0) _exit(0);
  if (child < 0 || waitpid(child, nullptr, 0) != child) handler_failures = handler_failures + 1;
  errno = saved_errno;
}

// All three are safe in signal handlers, whatever they interrupt.
TEST(Signals, HandlersMayClosePollAndForkWhileDescriptorsComeAndGo) {
  EXPECT_EQ(in_child([] {
              alarm(100);  // what hangs, hangs for ever
              const int ring = make_ring();
              const int epoll = epoll_of(ring);
              polled_by_handler = ring;
              on_signal(SIGUSR1, close_poll_and_fork);
              send_every(300'000, SIGUSR1);
              while (signals_seen < 1000) {
                const int map = make_map();
                const uint32_t value = 3;
                epoll_event event;
                const bool good = update(map, 0, &value) == 0 && epoll_wait(epoll, &event, 1, 0) == 0;
                if (!good || close(map) != 0) return 1;
              }
              on_signal(SIGUSR1, SIG_IGN);
              return handler_failures == 0 ? 0 : 2;
            }),
            0);
}

TEST(Signals, EndAWaitForARing) {
  // The signal comes at any instant of the wait, also between two of its turns.
  EXPECT_EQ(in_child([] {
              alarm(100);
              const int ring = make_ring();
              const int epoll = epoll_of(ring);
              on_signal(SIGUSR1, [](int) { signals_seen = signals_seen + 1; });
              send_every(100'300'000, SIGUSR1);
              sigset_t none;
              sigemptyset(&none);
              for (int round = 0; round < 12; ++round) {
                const int before = signals_seen;
                epoll_event event;
                pollfd polled = {.fd = ring, .events = POLLIN, .revents = 0};
                const int result = round % 4 == 0   ? epoll_wait(epoll, &event, 1, -1)
                                   : round % 4 == 1 ? epoll_pwait(epoll, &event, 1, -1, &none)
                                   : round % 4 == 2 ? poll(&polled, 1, -1)
                                                    : ppoll(&polled, 1, nullptr, &none);
                if (result != -1 || errno != EINTR) return 1;
                if (signals_seen == before) return 2;
              }
              // Blocked outside, let in by the wait's own mask alone.
              sigset_t blocked;
              sigemptyset(&blocked);
              sigaddset(&blocked, SIGUSR1);
              sigprocmask(SIG_BLOCK, &blocked, nullptr);
              epoll_event event;
              const int before = signals_seen;
              if (epoll_wait(epoll, &event, 1, 250) != 0 || signals_seen != before) return 3;
              if (epoll_pwait(epoll, &event, 1, -1, &none) != -1 || errno != EINTR) return 4;
              if (signals_seen == before) return 5;
              sigset_t now;
              sigprocmask(SIG_SETMASK, nullptr, &now);
              return sigismember(&now, SIGUSR1) == 1 && sigismember(&now, SIGTERM) == 0 ? 0 : 6;
            }),
            0);
}

int64_t milliseconds_now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000} + now.tv_nsec / 1'000'000;
}

volatile int64_t first_handled_at = 0;

/// Whether a signal that `wait` blocks for 250 ms is not handled before it returns. False also where the thread was
/// late for the wait.
template <class Wait>
bool keeps_signals_out(const Wait& wait) {
  const timer_t timer = send_every(20'000'000, SIGUSR1);
  const int64_t begin = milliseconds_now();
  first_handled_at = 0;
  const int result = wait();
  timer_delete(timer);
  return result == 0 && first_handled_at >= begin + 249;
}

TEST(Signals, StayBlockedForAWholeWaitForARing) {
  EXPECT_EQ(in_child([] {
              const int ring = make_ring();
              const int epoll = epoll_of(ring);
              on_signal(SIGUSR1, [](int) {
                if (first_handled_at == 0) first_handled_at = milliseconds_now();
              });
              sigset_t mask;
              sigemptyset(&mask);
              sigaddset(&mask, SIGUSR1);
              epoll_event event;
              pollfd polled = {.fd = ring, .events = POLLIN, .revents = 0};
              const timespec timeout = {0, 250'000'000};
              const auto by_epoll = [&] { return epoll_pwait(epoll, &event, 1, 250, &mask); };
              const auto by_poll = [&] { return ppoll(&polled, 1, &timeout, &mask); };
              int late = 0;
              while (late < 20 && !keeps_signals_out(by_epoll)) ++late;
              while (late < 20 && !keeps_signals_out(by_poll)) ++late;
              return late < 20 ? 0 : 1;
            }),
            0);
}

TEST(Descriptors, KeepTheirWatchWhenTheyAreNotReplaced) {
  const int ring = make_ring();
  auto* consumed =
      static_cast<std::atomic<uint64_t>*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0));
  ASSERT_NE(consumed, MAP_FAILED);
  const int epoll = epoll_of(ring);
  ASSERT_GE(epoll, 0);
  EXPECT_EQ(error_of(dup2(-1, ring)), EBADF);
  EXPECT_EQ(error_of(dup2(999'999, ring)), EBADF);
  EXPECT_EQ(error_of(dup3(epoll, ring, 1)), EINVAL);
  EXPECT_EQ(error_of(dup3(ring, ring, 0)), EINVAL);
  EXPECT_EQ(error_of(syscall(SYS_dup2, -1, ring)), EBADF);
  epoll_event event;
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  *consumed = 8;  // what is not where the producer is can be read
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 2000), 1);
  event.events = EPOLLIN;
  EXPECT_EQ(epoll_ctl(epoll, EPOLL_CTL_MOD, ring, &event), 0);
  // Replaced, it is a ring no more.
  ASSERT_EQ(dup2(epoll, ring), ring);
  EXPECT_NE(epoll_ctl(epoll, EPOLL_CTL_MOD, ring, &event), 0);
  munmap(consumed, 4096);
  close(ring);
  close(epoll);
}

TEST(Descriptors, OfRingsAreWaitedForWhereverTheyComeFrom) {
  const int ring = make_ring();
  const int copy = dup(ring);
  const int epoll = epoll_of(copy);
  EXPECT_GE(epoll, 0);
  epoll_event event;
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  const int file = open("/proc/self/exe", O_RDONLY);
  EXPECT_EQ(error_of(epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event)), EPERM);
  const int map = make_map();
  EXPECT_EQ(error_of(epoll_ctl(epoll, EPOLL_CTL_ADD, map, &event)), EPERM);
  for (const int fd : {ring, copy, epoll, file, map}) close(fd);
}

// -- arenas

constexpr size_t kPage = 4096;

int make_arena(uint32_t flags = 0, uint32_t pages = 16) {
  bpf_attr attr = {};
  attr.map_type = BPF_MAP_TYPE_ARENA;
  attr.max_entries = pages;
  attr.map_flags = BPF_F_MMAPABLE | flags;
  return static_cast<int>(bpf(BPF_MAP_CREATE, attr));
}

char* map_arena(int arena, void* address = nullptr, int flags = MAP_SHARED, size_t pages = 16) {
  return static_cast<char*>(mmap(address, pages * kPage, PROT_READ | PROT_WRITE, flags, arena, 0));
}

TEST(Arenas, AreStillKnownWhereNothingTookTheirPlace) {
  const int arena = make_arena();
  char* memory = map_arena(arena);
  ASSERT_NE(memory, MAP_FAILED);
  // Each of these fails.
  EXPECT_EQ(mmap(memory, 16 * kPage, PROT_READ, MAP_SHARED | MAP_FIXED, 999, 0), MAP_FAILED);
  EXPECT_EQ(mmap(memory, 16 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB, -1, 1),
            MAP_FAILED);
  EXPECT_EQ(error_of(munmap(memory - kPage + 1, 18 * kPage)), EINVAL);
  EXPECT_EQ(mremap(memory + 32 * kPage, kPage + 1, 16 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, memory + 1), MAP_FAILED);
  EXPECT_EQ(error_of(munmap(memory, kPage)), EINVAL);  // a part
  EXPECT_EQ(error_of(mprotect(memory, kPage, PROT_READ)), EINVAL);
  memory[0] = 7;
  // Whole, it can be replaced.
  ASSERT_EQ(mmap(memory, 16 * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), memory);
  EXPECT_EQ(memory[0], 0);
  EXPECT_EQ(mprotect(memory, kPage, PROT_NONE), 0);
  ASSERT_EQ(map_arena(arena, memory, MAP_SHARED | MAP_FIXED), memory);
  EXPECT_EQ(memory[0], 7);
  ASSERT_EQ(map_arena(arena, memory, MAP_SHARED | MAP_FIXED), memory);
  EXPECT_EQ(error_of(munmap(memory, kPage)), EINVAL);
  EXPECT_EQ(munmap(memory, 16 * kPage), 0);
  close(arena);
}

/// Whether a read there is SIGSEGV.
bool faults_at(const volatile char* address) {
  static sigjmp_buf place;
  on_signal(SIGSEGV, [](int) { siglongjmp(place, 1); });
  volatile bool faulted = true;
  if (sigsetjmp(place, 1) == 0) {
    static_cast<void>(*address);
    faulted = false;
  }
  on_signal(SIGSEGV, SIG_DFL);
  return faulted;
}

/// Runs `close_all` in a child with a strict arena; whether touching a page that nobody has allocated still faults.
template <class CloseAll>
int faults_after(const CloseAll& close_all) {
  return in_child([&] {
    const int arena = make_arena(BPF_F_SEGV_ON_FAULT);
    const char* memory = map_arena(arena);
    if (memory == MAP_FAILED) return 1;
    if (!faults_at(memory)) return 77;
    close_all();
    return faults_at(memory + kPage) ? 0 : 2;
  });
}

TEST(Arenas, KeepFaultingWhateverTheProgramCloses) {
  if (faults_after([] {}) == 77) GTEST_SKIP() << "userfaultfd(2) is refused";
  EXPECT_EQ(faults_after([] { closefrom(3); }), 0);
  EXPECT_EQ(faults_after([] { close_range(3, ~0U, 0); }), 0);
  EXPECT_EQ(faults_after([] {
              for (int fd = 3; fd < 1024; ++fd) close(fd);
            }),
            0);
  EXPECT_EQ(faults_after([] {
              for (int fd = 3; fd < 1024; ++fd) syscall(SYS_close, fd);
            }),
            0);
  EXPECT_EQ(faults_after([] {
              for (int fd = 3; fd < 1000; ++fd) dup2(-1, fd);
              for (int fd = 3; fd < 1000; ++fd) dup2(STDIN_FILENO, fd);
            }),
            0);
}

TEST(Arenas, HaveNoPagesThatNobodyTouchedWhateverIsLocked) {
  EXPECT_EQ(in_child([] {
              if (mlockall(MCL_FUTURE) != 0) return 0;  // no such limit here
              const int arena = make_arena(0, 4096);
              char* memory = map_arena(arena, nullptr, MAP_SHARED, 4096);
              if (memory == MAP_FAILED) return 1;
              memory[kPage] = 1;
              struct stat status = {};
              return fstat(arena, &status) == 0 && status.st_blocks < 1024 ? 0 : 2;  // of 512 bytes
            }),
            0);
}

TEST(Arenas, FaultWhereThereIsNoMemoryAsOnTheKernel) {
  const int status = in_child([] {
    char directory[] = "/dev/shm/skep-full-XXXXXX";
    if (mkdtemp(directory) == nullptr || unshare(CLONE_NEWNS) != 0) return 77;
    if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
    const bool mounted = mount("none", directory, "tmpfs", 0, "size=32m,mode=700") == 0;
    const int result = !mounted ? 77 : in_child([&] {
      setenv("SKEP_DIR", directory, 1);
      execl("/proc/self/exe", "self", "--touch-without-memory", nullptr);
      return 99;
    });
    if (mounted) umount2(directory, MNT_DETACH);
    rmdir(directory);
    return result;
  });
  if (status == 77) GTEST_SKIP() << "no file system can be mounted";
  EXPECT_EQ(status, 0);
}

TEST(PerfEvents, RingsAreNotInherited) {
  perf_event_attr attr = {};
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_BPF_OUTPUT;
  attr.size = sizeof(attr);
  attr.sample_type = PERF_SAMPLE_RAW;
  const int event = static_cast<int>(syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC));
  ASSERT_GE(event, 0) << strerror(errno);
  void* ring = mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, event, 0);
  ASSERT_NE(ring, MAP_FAILED);
  EXPECT_EQ(in_child([=] { return error_of(msync(ring, kPage, MS_ASYNC)); }), ENOMEM);
  EXPECT_EQ(msync(ring, kPage, MS_ASYNC), 0);
  munmap(ring, 2 * kPage);
  close(event);
}

TEST(Syscall, PassesOtherNumbersThrough) {
  EXPECT_EQ(syscall(SYS_getpid), getpid());
  EXPECT_EQ(syscall(SYS_openat, AT_FDCWD, "/nonexistent", O_RDONLY, 0), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(syscall(100000), -1);
  EXPECT_EQ(errno, ENOSYS);
  // Six arguments.
  void* memory =
      reinterpret_cast<void*>(syscall(SYS_mmap, nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  EXPECT_EQ(syscall(SYS_munmap, memory, 4096), 0);
}

TEST(Limits, OfLockedMemoryCanAlwaysBeRaised) {
  EXPECT_EQ(in_child([] {
              rlimit limits = {4096, 4096};
              if (setrlimit(RLIMIT_MEMLOCK, &limits) != 0) return 1;
              const bool was_root = geteuid() == 0;
              if (was_root && setresuid(65534, 65534, 65534) != 0) return 2;
              limits = {RLIM_INFINITY, RLIM_INFINITY};
              if (setrlimit(RLIMIT_MEMLOCK, &limits) != 0) return 3;
              rlimit old = {};
              if (prlimit(0, RLIMIT_MEMLOCK, &limits, &old) != 0 || old.rlim_max != 4096) return 4;
              if (was_root && prlimit(1, RLIMIT_MEMLOCK, &limits, nullptr) == 0) return 6;
              limits = {RLIM_INFINITY, RLIM_INFINITY};
              rlimit files = {};
              getrlimit(RLIMIT_NOFILE, &files);
              files.rlim_max += 1;
              return setrlimit(RLIMIT_NOFILE, &files) == -1 && errno == EPERM ? 0 : 5;
            }),
            0);
}

sigjmp_buf after_fault;
volatile sig_atomic_t faults_seen = 0;

void on_fault(int, siginfo_t*, void*) {
  faults_seen = faults_seen + 1;
  siglongjmp(after_fault, 1);
}

long update_from_bad_pointer(int map) { return update(map, 0, reinterpret_cast<void*>(8192)); }

TEST(Faults, OfTheProgramAndOfBpfAreToldApart) {
  const int map = make_map();
  EXPECT_EQ(error_of(update_from_bad_pointer(map)), EFAULT);

  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGUSR1);
  ASSERT_EQ(sigaction(SIGSEGV, &action, &before), 0);
  EXPECT_EQ(before.sa_handler, SIG_DFL);
  EXPECT_EQ(error_of(update_from_bad_pointer(map)), EFAULT);
  EXPECT_EQ(faults_seen, 0);

  if (sigsetjmp(after_fault, 1) == 0) {
    *reinterpret_cast<volatile int*>(8192) = 1;
    ADD_FAILURE() << "the write did not fault";
  }
  EXPECT_EQ(faults_seen, 1);
  sigset_t blocked;
  sigprocmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT_FALSE(sigismember(&blocked, SIGSEGV));
  EXPECT_EQ(error_of(update_from_bad_pointer(map)), EFAULT);

  ASSERT_EQ(sigaction(SIGSEGV, &before, &action), 0);
  EXPECT_EQ(action.sa_sigaction, on_fault);
  EXPECT_EQ(error_of(update_from_bad_pointer(map)), EFAULT);
  EXPECT_EQ(in_child([] { return *reinterpret_cast<volatile int*>(8192); }), 128 + SIGSEGV);
  EXPECT_EQ(in_child([] { return raise(SIGSEGV); }), 128 + SIGSEGV);
  EXPECT_EQ(in_child([] {
              signal(SIGSEGV, SIG_IGN);
              return raise(SIGSEGV);
            }),
            0);
  close(map);
}

TEST(Start, MayHappenInManyThreadsAtOnce) {
  // In a process where nothing has started yet.
  char program[] = "/proc/self/exe";
  char mode[] = "--start-in-threads";
  char* arguments[] = {program, mode, nullptr};
  for (int round = 0; round < 20; ++round) {
    pid_t child;
    ASSERT_EQ(posix_spawn(&child, program, nullptr, nullptr, arguments, environ), 0);
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), 0);
  }
}

TEST(Start, ThatFailsIsToldOnceAndKillsNobody) {
  for (const char* directory : {"/proc/self/nowhere", "/dev/null", "/dev/null/below"}) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    EXPECT_EQ(in_child([&] {
                dup2(pipe_ends[1], STDERR_FILENO);
                setenv("SKEP_DIR", directory, 1);
                execl("/proc/self/exe", "self", "--bpf-twice", nullptr);
                return 99;
              }),
              0);
    close(pipe_ends[1]);
    const std::string said = read_stream(fdopen(pipe_ends[0], "r"));
    EXPECT_EQ(said.find("skep: cannot start: " + std::string(directory)), 0U) << said;
    EXPECT_EQ(said.find('\n'), said.size() - 1) << said;
  }
}

TEST(NoMemory, IsToldOnceAndNamesTheVariable) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  EXPECT_EQ(in_child([&] {
              dup2(pipe_ends[1], STDERR_FILENO);
              bpf_attr attr = {};
              attr.map_type = BPF_MAP_TYPE_ARRAY;
              attr.key_size = 4;
              attr.value_size = 1 << 20;
              attr.max_entries = 1 << 19;  // 512 GiB
              const bool first = bpf(BPF_MAP_CREATE, attr) == -1 && errno == ENOMEM;
              const bool second = bpf(BPF_MAP_CREATE, attr) == -1 && errno == ENOMEM;
              return first && second ? 0 : 1;
            }),
            0);
  close(pipe_ends[1]);
  const std::string said = read_stream(fdopen(pipe_ends[0], "r"));
  EXPECT_EQ(said.find("skep: no memory for "), 0U) << said;
  EXPECT_NE(said.find("SKEP_DIR"), std::string::npos) << said;
  EXPECT_EQ(said.find('\n'), said.size() - 1) << said;
}

// -- what the program does when it is run again by one of its tests

int look_up_key_3(const char* number) {
  uint32_t value = 0;
  return lookup(atoi(number), 3, &value) == 0 ? static_cast<int>(value) : 99;
}

int start_in_threads() {
  std::atomic<int> failures{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&failures, i] {
        const int map = make_map();
        const auto value = static_cast<uint32_t>(i);
        uint32_t found = 99;
        if (map < 0 || update(map, 0, &value) != 0 || lookup(map, 0, &found) != 0 || found != value) ++failures;
        close(map);
      });
    }
  }
  return failures;
}

/// Touches a page of an arena in an instance whose file system is full.
int touch_without_memory() {
  const int arena = make_arena(0, 1024);
  char* memory = map_arena(arena, nullptr, MAP_SHARED, 1024);
  if (memory == MAP_FAILED) return 1;
  memory[0] = 1;
  const int filler = open((std::string(getenv("SKEP_DIR")) + "/filler").c_str(), O_WRONLY | O_CREAT, 0600);
  const std::string block(kPage, 'x');
  while (write(filler, block.data(), block.size()) > 0) {
  }
  if (errno != ENOSPC) return 2;
  return memory[0] == 1 && faults_at(memory + kPage) ? 0 : 3;
}

int bpf_twice() {
  for (int i = 0; i < 2; ++i) {
    if (error_of(make_map()) != ENOSYS) return 1;
  }
  struct stat status = {};
  return stat("/", &status);
}

}  // namespace
}  // namespace skep::preloaded

int main(int argc, char** argv) {
  namespace preloaded = skep::preloaded;
  const std::string mode = argc > 1 ? argv[1] : "";
  if (getenv("LD_PRELOAD") == nullptr) return preloaded::run_preloaded(argv);
  if (mode == "--look-up-key-3" && argc > 2) return preloaded::look_up_key_3(argv[2]);
  if (mode == "--start-in-threads") return preloaded::start_in_threads();
  if (mode == "--bpf-twice") return preloaded::bpf_twice();
  if (mode == "--touch-without-memory") return preloaded::touch_without_memory();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
