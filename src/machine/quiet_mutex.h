// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>

#include <mutex>

namespace skep {

/// While it lives, no signal handler interrupts the calling thread (faults of its own excepted). Nests; sections of a
/// thread may end in any order. Costs two system calls around the outermost one. Async-signal-safe; a child forked
/// inside a section is inside it too.
class QuietSection {
 public:
  QuietSection() { begin(); }
  QuietSection(const QuietSection&) = delete;
  QuietSection& operator=(const QuietSection&) = delete;
  ~QuietSection() { end(); }

  static void begin();
  static void end();
  /// Every signal but those of the thread's own faults: a blocked fault ends the process.
  static sigset_t signals();
};

/// A mutex whose holder is in a QuietSection: for what signal handlers may come to through close(2), poll(2) and
/// fork(2), which would wait for their own thread for ever. Not for hot paths.
class QuietMutex {
 public:
  void lock() {
    QuietSection::begin();
    mutex_.lock();
  }
  bool try_lock() {
    QuietSection::begin();
    if (mutex_.try_lock()) return true;
    QuietSection::end();
    return false;
  }
  void unlock() {
    mutex_.unlock();
    QuietSection::end();
  }

 private:
  std::mutex mutex_;
};

}  // namespace skep
