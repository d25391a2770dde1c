// SPDX-License-Identifier: Apache-2.0
#include "syscall/client_mappings.h"

#include <dirent.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "memory/file_header.h"

namespace skep {
namespace {

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

struct Mapping {
  uint64_t begin, end, offset;
  char permissions[5];
  unsigned major, minor;
  uint64_t inode;
};

bool parse_mapping(const char* line, Mapping& mapping) {
  return std::sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &mapping.begin, &mapping.end,
                     mapping.permissions, &mapping.offset, &mapping.major, &mapping.minor, &mapping.inode) == 7;
}

class Search {
 public:
  Search(const struct stat& info, uint64_t user_size) : info_(info), user_size_(user_size) {}

  [[nodiscard]] bool process_maps_it(const std::string& process) const {
    const File maps(std::fopen((process + "/maps").c_str(), "re"));
    bool may_be_writable = false;
    for_each_line(maps.get(), [&](const char* line) {
      Mapping mapping;
      if (parse_mapping(line, mapping) && is_client_mapping(mapping)) may_be_writable = true;
    });
    return may_be_writable && flags_say_writable(process);
  }

  [[nodiscard]] ClientMapping first_of_this_process() const {
    const File maps(std::fopen("/proc/self/maps", "re"));
    ClientMapping found;
    for_each_line(maps.get(), [&](const char* line) {
      Mapping mapping;
      if (found.end == 0 && parse_mapping(line, mapping) && is_client_mapping(mapping) && mapping.offset == 0) {
        found = {mapping.begin, mapping.end};
      }
    });
    return found;
  }

 private:
  template <class Visit>
  static void for_each_line(FILE* file, Visit visit) {
    if (file == nullptr) return;
    char* line = nullptr;
    size_t capacity = 0;
    while (::getline(&line, &capacity, file) >= 0) visit(line);
    std::free(line);
  }

  [[nodiscard]] bool is_client_mapping(const Mapping& mapping) const {
    if (mapping.inode != info_.st_ino || mapping.major != major(info_.st_dev) || mapping.minor != minor(info_.st_dev))
      return false;
    if (mapping.offset >= kHeaderOffset || mapping.permissions[3] != 's') return false;
    return mapping.offset != 0 || mapping.end - mapping.begin != user_size_ + kPageSize;
  }

  /// Only smaps tells a mapping that could be made writable ("mw") from one that never can.
  [[nodiscard]] bool flags_say_writable(const std::string& process) const {
    const File smaps(std::fopen((process + "/smaps").c_str(), "re"));
    bool inside = false;
    bool writable = false;
    for_each_line(smaps.get(), [&](const char* line) {
      Mapping mapping;
      if (parse_mapping(line, mapping)) {
        inside = is_client_mapping(mapping);
      } else if (inside && std::strncmp(line, "VmFlags:", 8) == 0 && std::strstr(line, " mw") != nullptr) {
        writable = true;
      }
    });
    return writable;
  }

  const struct stat& info_;
  uint64_t user_size_;
};

}  // namespace

ClientMapping own_client_mapping(const struct stat& info, uint64_t user_size) {
  return Search(info, user_size).first_of_this_process();
}

bool has_writable_client_mapping(const struct stat& info, uint64_t user_size) {
  const Search search(info, user_size);
  const std::unique_ptr<DIR, CloseDirectory> processes(::opendir("/proc"));
  if (processes == nullptr) return search.process_maps_it("/proc/self");
  while (const dirent* entry = ::readdir(processes.get())) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    if (search.process_maps_it(std::string("/proc/") + entry->d_name)) return true;
  }
  return false;
}

}  // namespace skep
