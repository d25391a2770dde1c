// SPDX-License-Identifier: Apache-2.0
#include "syscall/opened_references.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "object/object_name.h"
#include "syscall/perf_event_entries.h"
#include "syscall/prog_commands.h"

namespace skep {
namespace {

/// How many entries are looked at, each time one is added, for objects that have died since.
constexpr uint32_t kSweptPerOpening = 4;

class OpenedReferences final : public ProgramReferences {
 public:
  static void watch_forks();
  explicit OpenedReferences(Process& process);
  ~OpenedReferences() override;

  [[nodiscard]] bool has_users(uint32_t map_id) const override { return process_.instance->map_has_users(map_id); }

 private:
  const MapBinding* open_map(uint32_t id) override {
    auto map = process_.descriptors.map_by_id(id);
    // Opening it was a reference for a moment; the last one, if it is dead by now.
    process_.instance->collect(ObjectKind::kMap, id);
    if (!map) return nullptr;
    sweep(maps_, ObjectKind::kMap);
    return maps_.insert(std::make_unique<MapBinding>(bind_map(*std::move(map))));
  }

  const ReadyProgram* open_program(uint32_t id) override {
    auto opened = std::make_unique<ReadyProgram>();
    opened->id = id;
    {
      const auto file = process_.instance->open_by_id(ObjectKind::kProgram, id, O_RDONLY);
      if (!file) return nullptr;
      auto face = skep::open_program(process_, file->get(), {});
      if (!face) return nullptr;
      const auto program = static_cast<const ProgramFace&>(**face).ready(process_.descriptors);
      if (!program) return nullptr;
      opened->code = &(*program)->code();
      opened->owner = *std::move(face);
    }
    process_.instance->collect(ObjectKind::kProgram, id);
    sweep(programs_, ObjectKind::kProgram);
    return programs_.insert(std::move(opened));
  }

  const ReadyEvent* open_event(uint32_t id) override {
    auto opened = std::make_unique<ReadyEvent>();
    opened->id = id;
    {
      const auto file = process_.instance->open_by_id(ObjectKind::kPerfEvent, id, O_RDONLY);
      if (!file) return nullptr;
      // The mapping is no reference: the event goes with its client's descriptors and entries.
      const auto own = Instance::reopen(file->get(), O_RDWR);
      if (!own) return nullptr;
      auto event = PerfEvent::open(own->get(), process_.machine);
      if (!event) return nullptr;
      opened->event = *std::move(event);
    }
    process_.instance->collect(ObjectKind::kPerfEvent, id);
    sweep(events_, ObjectKind::kPerfEvent);
    return events_.insert(std::move(opened));
  }

  bool entry_ended(const MapBinding& map, const ReadyEvent& event, uint64_t word) override {
    constexpr uint64_t kInterval = 100'000'000;
    timespec time;
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    const uint64_t now = static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
    uint64_t next = event.next_look.load(std::memory_order_relaxed);
    if (now < next || !event.next_look.compare_exchange_strong(next, now + kInterval)) return false;
    if (insertion_is_open(*map.map, word)) return false;
    event.ended_in.store(map.id, std::memory_order_relaxed);
    event.ended_word.store(word, std::memory_order_relaxed);
    return true;
  }

  /// Lets go of what is dead: its memory is in use as long as it is mapped here.
  template <class T>
  void sweep(IdCache<T>& cache, ObjectKind kind) {
    const int directory = process_.instance->directory_fd();
    cache.erase_some(kSweptPerOpening, [&](const T& entry) {
      struct stat info {};
      return ::fstatat(directory, ObjectName(kind, entry.id).path(), &info, AT_SYMLINK_NOFOLLOW) != 0 &&
             errno == ENOENT;
    });
  }

  static void before_fork();
  static void after_fork();

  Process& process_;
};

// Every one of the process, for fork(2).
struct All {
  QuietMutex mutex;
  std::vector<OpenedReferences*> members;
};
All& all() {
  static All* const all = new All;
  return *all;
}

void OpenedReferences::watch_forks() {
  [[maybe_unused]] static const int registered = ::pthread_atfork(before_fork, after_fork, after_fork);
}

OpenedReferences::OpenedReferences(Process& process)
    : ProgramReferences(process.instance->machine()), process_(process) {
  watch_forks();
  const std::scoped_lock lock(all().mutex);
  all().members.push_back(this);
}

OpenedReferences::~OpenedReferences() {
  const std::scoped_lock lock(all().mutex);
  std::erase(all().members, this);
}

void OpenedReferences::before_fork() {
  all().mutex.lock();
  for (OpenedReferences* one : all().members) {
    one->maps_.mutex().lock();
    one->programs_.mutex().lock();
    one->events_.mutex().lock();
  }
}

void OpenedReferences::after_fork() {
  for (OpenedReferences* one : all().members) {
    one->events_.mutex().unlock();
    one->programs_.mutex().unlock();
    one->maps_.mutex().unlock();
  }
  all().mutex.unlock();
}

}  // namespace

void watch_forks_of_references() { OpenedReferences::watch_forks(); }

std::unique_ptr<ProgramReferences> make_program_references(Process& process) {
  return std::make_unique<OpenedReferences>(process);
}

}  // namespace skep
