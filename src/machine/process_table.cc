// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "machine/process_side.h"

namespace skep {
namespace {

constexpr uint64_t kAskInterval = 1'000'000;  // ns

struct flock lock_on_index(uint32_t index) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = index;
  lock.l_len = 1;
  return lock;
}

}  // namespace

uint64_t monotonic_nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

bool Machine::ProcessSide::register_process(int fd) {
  // Indices are handed out in turn, so that one is used again as late as possible.
  const uint32_t start = segment->counters.next_process.fetch_add(1, std::memory_order_relaxed);
  for (uint32_t i = 0; i < kMaxProcesses; ++i) {
    const uint32_t index = 1 + (start + i) % kMaxProcesses;
    struct flock lock = lock_on_index(index);
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
      if (errno == EAGAIN || errno == EACCES) continue;
      return false;
    }
    // The lock is ours, so the predecessor is dead, and nobody else writes this generation.
    const uint32_t generation = segment->generations[index].load(std::memory_order_relaxed) + 1;
    segment->generations[index].store(generation, std::memory_order_seq_cst);
    tag.store(ProcessTag::make(index, generation).value, std::memory_order_release);
    free_what_predecessors_left(index);
    return true;
  }
  errno = EAGAIN;
  return false;
}

// Before generations come round again (2^20 later) nothing in the segment names an old one.
void Machine::ProcessSide::free_what_predecessors_left(uint32_t index) {
  for (uint32_t i = 0; i < segment->shape.slots; ++i) {
    uint64_t word = segment->slots[i].word.load(std::memory_order_acquire);
    if (ProcessTag{static_cast<uint32_t>(word >> 32)}.index() == index) {
      segment->slots[i].word.compare_exchange_strong(word, 0);
    }
  }
  const uint32_t used = segment->counters.readers_used.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < std::min(used, kMaxReaders); ++i) {
    const ProcessTag owner{segment->readers[i].owner.load(std::memory_order_acquire)};
    if (owner.index() == index) reap_record(segment->readers[i]);
  }
}

void Machine::ProcessSide::separate_from_parent() {
  tag.store(0, std::memory_order_relaxed);
  file.separate_from_parent();
  const int fd = file.reopen();
  if (fd < 0) return;
  // Takes the place of the inherited mapping, with which the parent's registration would outlive the parent.
  void* const mapped = mmap(window.data(), window.size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                            static_cast<off_t>(kHeaderOffset));
  if (mapped != MAP_FAILED) register_process(fd);
  close(fd);
  barrier.start(segment->epochs);
}

bool Machine::ProcessSide::alive(ProcessTag process) {
  const uint32_t index = process.index();
  if (index == 0) return false;
  if (process.value == tag.load(std::memory_order_relaxed)) return true;
  const auto& generation = segment->generations[index];
  if (ProcessTag::make(index, generation.load(std::memory_order_seq_cst)) != process) return false;
  const int fd = file.descriptor();
  struct flock lock = lock_on_index(index);
  if (fd < 0 || fcntl(fd, F_OFD_GETLK, &lock) != 0) return true;  // nobody can tell: it must not be taken for dead
  if (lock.l_type == F_UNLCK) return false;
  // Somebody holds the index; is it still the process that was asked for?
  return ProcessTag::make(index, generation.load(std::memory_order_seq_cst)) == process;
}

bool Machine::ProcessSide::time_to_ask_for_the_living() {
  const uint64_t now = monotonic_nanoseconds();
  uint64_t next = next_liveness_check.load(std::memory_order_relaxed);
  return now >= next && next_liveness_check.compare_exchange_strong(next, now + kAskInterval);
}

}  // namespace skep
