// SPDX-License-Identifier: Apache-2.0
// Program objects in this process, and PROG_BIND_MAP.
#include "syscall/prog_commands.h"

#include <fcntl.h>
#include <pthread.h>

#include <algorithm>
#include <mutex>

#include "machine/quiet_mutex.h"
#include "object/instance.h"

namespace skep {
namespace {

// Held by whoever prepares a program; before the descriptor table's. Across fork(2), so that the child never meets one
// that a thread of its parent held.
QuietMutex& preparing() {
  static QuietMutex* const mutex = [] {
    ::pthread_atfork([] { preparing().lock(); }, [] { preparing().unlock(); }, [] { preparing().unlock(); });
    return new QuietMutex;
  }();
  return *mutex;
}

}  // namespace

std::vector<uint32_t> ProgramFace::map_ids() const {
  std::vector<uint32_t> ids = image_.maps;
  for (const auto& bound : counters().bound) {
    const uint32_t id = bound.load(std::memory_order_acquire);  // pairs with prog_bind_map()
    if (id == 0) break;
    ids.push_back(id);
  }
  return ids;
}

Result<const Program*> ProgramFace::ready(FdTable& descriptors) const {
  // Pairs with the release below.
  if (const Program* program = ready_.load(std::memory_order_acquire)) [[likely]]
    return program;
  const std::scoped_lock lock(preparing());
  if (program_ == nullptr) {
    std::vector<std::shared_ptr<Map>> maps;
    for (const uint32_t id : image_.maps) {
      auto map = descriptors.map_by_id(id);
      if (!map) return std::unexpected(map.error());
      maps.push_back(std::move(*map));
    }
    auto prepared = Program::prepare(describe(image_, std::move(maps)));
    if (!prepared) return std::unexpected(prepared.error());
    program_ = std::move(*prepared);
    ready_.store(program_.get(), std::memory_order_release);
  }
  return program_.get();
}

const ProgramFace& program_of(const OpenObject& object) { return static_cast<const ProgramFace&>(*object.face); }

ProgramDescription describe(const ProgramImage& image, std::vector<std::shared_ptr<Map>> maps) {
  return {.type = image.facts.type,
          .expected_attach_type = image.facts.expected_attach_type,
          .sleepable = (image.facts.flags & BPF_F_SLEEPABLE) != 0,
          .gpl_compatible = image.facts.gpl_compatible != 0,
          .instructions = image.instructions,
          .maps = std::move(maps)};
}

Result<std::shared_ptr<ObjectFace>> open_program(Process&, int fd, const FileHeader&) {
  auto image = read_program_file(fd);
  if (!image) return std::unexpected(image.error());
  Result<Segment> counters = fail(EACCES);
  if (const auto writable = Instance::reopen(fd, O_RDWR)) {
    counters = open_program_counters(writable->get(), Access::kReadWrite);
  }
  if (!counters) counters = open_program_counters(fd, Access::kReadOnly);
  if (!counters) return std::unexpected(counters.error());
  return std::make_shared<ProgramFace>(std::move(*image), std::move(*counters));
}

Answer prog_bind_map(Caller& caller) {
  const auto& attr = caller.attr.prog_bind_map;
  if (attr.flags != 0) return fail(EINVAL);
  const auto program = caller.descriptors().share(static_cast<int>(attr.prog_fd), ObjectKind::kProgram);
  if (!program) return std::unexpected(program.error());
  const auto map_fd = static_cast<int>(attr.map_fd);
  const auto map = caller.descriptors().share(map_fd, ObjectKind::kMap);
  if (!map) return std::unexpected(map.error());
  const ProgramFace& face = program_of(**program);
  const uint32_t id = (*map)->id;
  if (std::ranges::find(face.image().maps, id) != face.image().maps.end()) return 0;
  if (!face.counts()) return fail(EACCES);
  Status held = caller.instance().hold(ObjectKind::kProgram, (*program)->id, ObjectKind::kMap, id, map_fd);
  if (!held) return std::unexpected(held.error());
  for (auto& bound : face.counters().bound) {
    uint32_t expected = 0;
    if (bound.compare_exchange_strong(expected, id, std::memory_order_release, std::memory_order_relaxed)) return 0;
    if (expected == id) return 0;
  }
  return fail_because(ENOMEM, "a program binds at most " + std::to_string(kMaxBound) + " maps");
}

}  // namespace skep
