// SPDX-License-Identifier: Apache-2.0
#include "preload/runtime.h"

#include <limits.h>
#include <skep/bpf.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "object/instance.h"
#include "preload/faults.h"
#include "preload/real.h"
#include "syscall/process.h"

namespace skep::preload {

constinit std::atomic<Process*> the_process{nullptr};

namespace {

std::atomic<bool> failed{false};                   // sticky: a client that asks a thousand times is told once
std::atomic<const Places*> known_places{nullptr};  // set once, never freed; release pairs with find_places()'s acquire

/// Tells the user why there is no bpf(2), in one write so that nothing comes between.
void explain_failure(int error) {
  std::string text = "skep: cannot start: ";
  const char* sentence = skep_last_error();
  text += *sentence != '\0' ? sentence : Instance::default_directory() + ": " + strerrordesc_np(error);
  text += "; bpf(2) answers ENOSYS\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

Process* start_slowly() {
  if (!failed.load(std::memory_order_relaxed)) {
    resolve_real_functions();
    take_fault_signals();
    skep_trust_descriptors();
    if (Process* process = default_process()) {
      the_process.store(process, std::memory_order_release);
      return process;
    }
    const int error = errno;
    if (!failed.exchange(true)) explain_failure(error);
  }
  errno = ENOSYS;
  return nullptr;
}

}  // namespace

void explain_no_memory() {
  static std::atomic<bool> told{false};
  const char* sentence = skep_last_error();
  if (*sentence == '\0' || told.exchange(true)) return;
  const int saved_errno = errno;
  const std::string text = std::string("skep: ") + sentence + "\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  errno = saved_errno;
}

Process* start() {
  Process* process = running_process();
  return process != nullptr ? process : start_slowly();
}

const Places* find_places() {
  if (const Places* places = known_places.load(std::memory_order_acquire)) return places;
  const int saved_errno = errno;
  // Once opened, the instance stays where it is, also if its name was relative and the program has moved.
  const Process* process = the_process.load(std::memory_order_acquire);
  const std::string directory = process != nullptr ? process->instance->directory() : Instance::default_directory();
  char buffer[PATH_MAX];
  const Places* places = nullptr;
  // The pins are there as soon as the instance is usable; a bare directory is not an instance yet.
  if (real::realpath((directory + "/pins").c_str(), buffer) != nullptr &&
      real::realpath(directory.c_str(), buffer) != nullptr) {
    const auto* found = new Places{buffer, std::string(buffer) + "/pins"};
    places = nullptr;
    if (known_places.compare_exchange_strong(places, found, std::memory_order_acq_rel)) {
      places = found;
    } else {
      delete found;
    }
  }
  errno = saved_errno;
  return places;
}

const Places* make_places() {
  if (const Places* places = find_places()) return places;
  if (start() == nullptr) return nullptr;
  const Places* places = find_places();
  if (places == nullptr) errno = ENOSYS;
  return places;
}

}  // namespace skep::preload
