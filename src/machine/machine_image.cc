// SPDX-License-Identifier: Apache-2.0
#include "machine/machine_image.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <string>

#include "machine/machine_layout.h"
#include "machine/possible_cpus.h"
#include "memory/file_space.h"
#include "memory/segment.h"

namespace skep {
namespace {

constexpr uint32_t kFirstEpoch = 2;

MachineShape shape_of_host() {
  const uint32_t cpus = std::min(possible_cpus(), kMaxSlots - kMinWriterSlots);
  return {.cpus = cpus, .slots = std::min(kMaxSlots, cpus + std::max(kMinWriterSlots, cpus))};
}

Status write_machine(int fd) {
  if (auto sized = size_file(fd, kHeaderOffset + sizeof(MachineSegment)); !sized) return sized;
  if (auto reserved = reserve_file(fd, kHeaderOffset, sizeof(MachineSegment)); !reserved) return reserved;
  auto window = Segment::map(fd, kHeaderOffset, sizeof(MachineSegment), Access::kReadWrite);
  if (!window) return std::unexpected(window.error());
  auto* segment = new (window->data()) MachineSegment{};
  segment->header = make_file_header(ObjectKind::kMachine, 0, sizeof(MachineSegment));
  segment->shape = shape_of_host();
  segment->epochs.epoch = kFirstEpoch;
  segment->grace.fenced = kFirstEpoch;
  segment->grace.completed = kFirstEpoch;
  return {};
}

Status name_machine(int fd, int directory_fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (linkat(AT_FDCWD, path.c_str(), directory_fd, kMachineName, AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST) return {};
  if (errno == ENOSPC) return fail_for_space(sizeof(MachineSegment));
  return fail_because(errno, "cannot give the machine of the skep instance its name");
}

}  // namespace

Status create_machine(int directory_fd) {
  const int fd = openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    if (errno == ENOSPC) return fail_for_space(sizeof(MachineSegment));
    return fail_because(errno, "cannot make a file in the directory of the skep instance");
  }
  Status made = write_machine(fd);
  if (made) made = name_machine(fd, directory_fd);
  close(fd);
  return made;
}

}  // namespace skep
