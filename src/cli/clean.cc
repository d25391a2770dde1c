// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>

#include "cli/command.h"
#include "cli/objects.h"
#include "machine/machine_layout.h"
#include "storage/owner_source.h"
#include "storage/owners.h"

namespace skep::cli {
namespace {

constexpr ObjectKind kKinds[] = {ObjectKind::kProgram, ObjectKind::kLink, ObjectKind::kMap, ObjectKind::kBtf,
                                 ObjectKind::kPerfEvent};

/// Every process of an instance holds a lock on its own byte of the machine file: whoever gets all of them is alone.
/// The lock lasts as long as the descriptor.
bool lock_out_everybody(const FileDescriptor& machine) {
  struct flock all = {};
  all.l_type = F_WRLCK;
  all.l_whence = SEEK_SET;
  all.l_len = kMaxProcesses + 1;
  return machine.get() >= 0 && fcntl(machine.get(), F_OFD_SETLK, &all) == 0;
}

/// Removes the instance's own files and the directory, which has to be empty then: what is not skep's stays.
bool remove_instance(const std::string& directory) {
  std::error_code error;
  for (const char* part : {"bpf-map", "bpf-prog", "btf", "bpf-link", "perf-event", "holds", "pins", "bells", "trace",
                           "bpf-stats", "owners", "machine"}) {
    std::filesystem::remove_all(directory + "/" + part, error);
  }
  return std::filesystem::remove(directory, error);
}

}  // namespace

int clean(Arguments arguments) {
  if (!arguments.empty()) return usage_error("clean takes no arguments");
  std::string directory;
  size_t objects = SIZE_MAX;
  {
    const auto instance = open_instance();
    if (!instance) return 1;
    directory = instance->directory();
    if (const auto owners = Owners::open(instance->machine(), false)) {
      (*owners)->sweep_all(Lease(instance->machine()), is_gone);
    }
    // What dies may have held others, of any kind: once more until nothing went.
    for (size_t before = 0; before != objects;) {
      before = std::exchange(objects, 0);
      for (const ObjectKind kind : kKinds) objects += living(*instance, kind).size();
    }
  }
  if (objects != 0) {
    std::printf("%s: living objects that stay: %zu\n", directory.c_str(), objects);
    return 0;
  }
  const FileDescriptor machine(open((directory + "/machine").c_str(), O_RDWR | O_CLOEXEC));
  if (!lock_out_everybody(machine)) {
    std::printf("%s: no objects, but a process that uses it\n", directory.c_str());
    return 0;
  }
  if (!remove_instance(directory)) {
    std::fprintf(stderr, "skep: %s: not empty, stays\n", directory.c_str());
    return 1;
  }
  std::printf("%s: removed\n", directory.c_str());
  return 0;
}

}  // namespace skep::cli
