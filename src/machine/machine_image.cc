// SPDX-License-Identifier: Apache-2.0
#include "machine/machine_image.h"

#include <algorithm>
#include <new>

#include "machine/machine_layout.h"
#include "machine/possible_cpus.h"
#include "memory/named_file.h"

namespace skep {
namespace {

constexpr uint32_t kFirstEpoch = 2;

MachineShape shape_of_host() {
  const uint32_t cpus = std::min(possible_cpus(), kMaxSlots - kMinWriterSlots);
  return {.cpus = cpus, .slots = std::min(kMaxSlots, cpus + std::max(kMinWriterSlots, cpus))};
}

Status fill_machine(const Segment& window) {
  auto* segment = new (window.data()) MachineSegment{};
  segment->header = make_file_header(ObjectKind::kMachine, 0, sizeof(MachineSegment));
  segment->shape = shape_of_host();
  segment->epochs.epoch = kFirstEpoch;
  segment->grace.fenced = kFirstEpoch;
  segment->grace.completed = kFirstEpoch;
  return {};
}

}  // namespace

Status create_machine(int directory_fd) {
  return make_named_file(directory_fd, kMachineName, sizeof(MachineSegment), sizeof(MachineSegment), fill_machine);
}

}  // namespace skep
