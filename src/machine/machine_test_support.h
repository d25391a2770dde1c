// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <utility>

#include "machine/machine.h"
#include "machine/machine_layout.h"
#include "memory/segment.h"
#include "memory/test_directory.h"

namespace skep {

inline std::shared_ptr<Machine> open_machine(const TestDirectory& directory) {
  auto machine = Machine::open(directory.fd());
  if (!machine) {
    ADD_FAILURE() << to_int(machine.error()) << " " << last_error_sentence();
    std::abort();
  }
  return *machine;
}

/// The bytes of a machine that exists, for tests that look at them or prepare them.
class MachineBytes {
 public:
  explicit MachineBytes(const TestDirectory& directory) {
    const int fd = openat(directory.fd(), "machine", O_RDWR | O_CLOEXEC);
    window_ = Segment::map(fd, kHeaderOffset, sizeof(MachineSegment), Access::kReadWrite).value();
    close(fd);
  }
  MachineSegment& operator*() const { return *reinterpret_cast<MachineSegment*>(window_.data()); }
  MachineSegment* operator->() const { return &**this; }

 private:
  Segment window_;
};

/// Waits until `condition()` holds; false after ten seconds.
template <class Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    sched_yield();
  }
  return true;
}

/// An anonymous page shared with forked children, holding one T.
template <class T>
class SharedPage {
 public:
  template <class... Arguments>
  explicit SharedPage(Arguments&&... arguments) {
    void* page = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    value_ = new (page) T(std::forward<Arguments>(arguments)...);
  }
  SharedPage(const SharedPage&) = delete;
  SharedPage& operator=(const SharedPage&) = delete;
  ~SharedPage() { munmap(value_, sizeof(T)); }
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
};

/// A forked child that runs `body` and exits with 0 if that returned true; killed and collected by the destructor.
class Child {
 public:
  template <class Body>
  explicit Child(Body body) : pid_(fork()) {
    if (pid_ == 0) _exit(body() ? 0 : 1);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { kill_and_wait(); }

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  void stop_and_wait() const {
    ::kill(pid_, SIGSTOP);
    waitpid(pid_, nullptr, WUNTRACED);
  }
  void kill_and_wait() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }
  /// 0 when the body returned true; 128 + signal when one ended it.
  int wait() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

}  // namespace skep
