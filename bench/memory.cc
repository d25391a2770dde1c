// SPDX-License-Identifier: Apache-2.0
// Bytes that a HASH with 8-byte keys and values takes per entry, all told.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "bpf_call.h"
#include "kernel_loops.h"
#include "sizes.h"
#include "sources.h"

#include <skep/map.h>

namespace skep::bench {

namespace {

constexpr char kWhat[] = "memory per entry, HASH 8/8, bytes";
constexpr uint32_t kEntries = 1 << 20;

std::vector<Figure> figure(double bytes) { return {Figure{kWhat, kEntries, 1, bytes / kEntries}}; }

std::vector<Figure> measure_kernel() {
  const auto loops = KernelLoops::load(kEntries);
  if (!loops) return {};
  return figure(static_cast<double>(loops->hash_memory()));
}

/// Bytes of all files of the instance's maps, which are what the file system holds for them.
uint64_t bytes_of_maps(const std::string& instance) {
  uint64_t blocks = 0;
  for (const auto& file : std::filesystem::directory_iterator(instance + "/bpf-map")) {
    struct stat status {};
    if (stat(file.path().c_str(), &status) == 0) blocks += static_cast<uint64_t>(status.st_blocks);
  }
  return blocks * 512;
}

std::vector<Figure> measure_skep(const std::string& directory) {
  skep_instance* instance = nullptr;
  skep_map* map = nullptr;
  skep_map_attr attributes{};
  attributes.size = sizeof(attributes);
  attributes.type = BPF_MAP_TYPE_HASH;
  attributes.key_size = 8;
  attributes.value_size = 8;
  attributes.max_entries = kEntries;
  if (skep_instance_open(directory.c_str(), &instance) != 0) return {};
  std::vector<Figure> result;
  if (skep_map_create(instance, &attributes, &map) == 0) {
    result = figure(static_cast<double>(bytes_of_maps(directory)));
    skep_map_close(map);
  }
  skep_instance_close(instance);
  return result;
}

}  // namespace

void add_memory(Suite& suite, const Plan& plan) {
  suite.add("kernel", measure_kernel);
  suite.add("skep", [directory = plan.instances + "/memory"] { return measure_skep(directory); });
  suite.add_target({kWhat, Target::Kind::kAbsolute, "", 32});
}

}  // namespace skep::bench
