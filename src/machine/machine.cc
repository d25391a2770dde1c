// SPDX-License-Identifier: Apache-2.0
#include "machine/machine.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "machine/machine_registry.h"
#include "machine/process_side.h"

namespace skep {
namespace {

uint64_t next_serial() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

bool plausible(const MachineShape& shape) {
  return shape.cpus >= 1 && shape.cpus < shape.slots && shape.slots <= kMaxSlots;
}

/// A descriptor that is closed at the end of a block.
struct ScopedDescriptor {
  explicit ScopedDescriptor(int number) : fd(number) {}
  ScopedDescriptor(const ScopedDescriptor&) = delete;
  ScopedDescriptor& operator=(const ScopedDescriptor&) = delete;
  ~ScopedDescriptor() { close(fd); }
  const int fd;
};

}  // namespace

Machine::Machine() : serial_(next_serial()), side_(std::make_unique<ProcessSide>()) {}

Result<std::shared_ptr<Machine>> Machine::open(int directory_fd) {
  MachineRegistry& registry = MachineRegistry::instance();
  const std::lock_guard lock(registry.mutex());
  std::shared_ptr<Machine> machine(new Machine);
  ProcessSide& side = *machine->side_;
  const auto opened = side.file.open_in(directory_fd);
  if (!opened) return std::unexpected(opened.error());
  const ScopedDescriptor descriptor(*opened);
  if (auto known = registry.find(side.file)) return known;

  auto window = Segment::map(descriptor.fd, kHeaderOffset, sizeof(MachineSegment), Access::kReadWrite);
  if (!window) return std::unexpected(window.error());
  side.window = std::move(*window);
  side.segment = reinterpret_cast<MachineSegment*>(side.window.data());
  machine->shape_ = side.segment->shape;
  if (!plausible(machine->shape_)) return fail_because(EINVAL, "the machine of the skep instance has no usable shape");
  if (!side.register_process(descriptor.fd)) {
    if (errno != EAGAIN) return fail_because(errno, "cannot register with the machine of the skep instance");
    return fail_because(EAGAIN, "the skep instance has " + std::to_string(kMaxProcesses) + " processes already");
  }
  side.barrier.start(side.segment->epochs);
  registry.add(machine);
  side.listed = true;
  return machine;
}

Machine::~Machine() {
  if (!side_->listed) return;
  finish_deferred();
  MachineRegistry& registry = MachineRegistry::instance();
  const std::lock_guard lock(registry.mutex());
  registry.remove(this);
  if (side_->tag != 0) side_->give_back_records();
}

uint32_t Machine::next_id(ObjectKind kind) {
  constexpr uint32_t kMaxId = INT32_MAX;
  auto& given = side_->segment->counters.ids[static_cast<uint32_t>(kind) % kObjectKinds];
  return given.fetch_add(1, std::memory_order_relaxed) % kMaxId + 1;
}

std::string Machine::directory() const {
  const std::string& path = side_->file.path();
  return path.substr(0, path.rfind('/'));
}

ProcessTag Machine::self() const { return side_->registered_tag(); }

bool Machine::alive(ProcessTag process) const { return side_->alive(process); }

}  // namespace skep
