// SPDX-License-Identifier: Apache-2.0
#include "syscall/map_text.h"

#include <fcntl.h>
#include <skep/abi.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "btf/btf_file.h"
#include "btf/btf_show.h"
#include "syscall/map_access.h"

namespace skep {
namespace {

constexpr std::string_view kWarning =
    "# WARNING!! The output is for debug purpose only\n# WARNING!! The output format will change\n";

bool is_printed(uint32_t type) {
  switch (type) {
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_RHASH:
    case BPF_MAP_TYPE_PROG_ARRAY:
    case BPF_MAP_TYPE_CGROUP_STORAGE:
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE:
      return true;
    default:
      return false;
  }
}

bool shows_index(uint32_t type) {
  return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PROG_ARRAY;
}

/// Prints one map.
class Printer {
 public:
  Printer(const Map& map, const Btf& btf) : map_(map), header_(map.header()), btf_(btf), text_(kWarning) {}

  std::string print() {
    const MapSpec& spec = header_.spec;
    const uint64_t words = (std::max<uint64_t>(map_.user_value_size(), sizeof(uint64_t)) + 7) / 8;
    std::vector<uint64_t> value(words);
    std::vector<std::byte> key(spec.key_size), next(spec.key_size);
    bool found = static_cast<bool>(map_.next_key(nullptr, next.data()));
    // A key that goes while it is the current one leads back to the first: no more steps than there can be elements.
    for (uint64_t steps = 0; found && steps < spec.max_entries; ++steps) {
      key.swap(next);
      if (map_.lookup(key.data(), value.data(), 0)) print_element(key, std::as_bytes(std::span(value)));
      found = static_cast<bool>(map_.next_key(key.data(), next.data()));
    }
    return std::move(text_);
  }

 private:
  void print_element(std::span<const std::byte> key, std::span<const std::byte> value) {
    const uint32_t type = header_.spec.type;
    if (type == BPF_MAP_TYPE_PROG_ARRAY && std::ranges::all_of(value, [](std::byte b) { return b == std::byte{0}; })) {
      return;
    }
    print_key(key);
    if (!is_per_cpu(type)) {
      show_value(btf_, header_.btf_value_type, value.first(header_.spec.value_size), text_);
      text_ += '\n';
      return;
    }
    text_ += "{\n";
    const size_t size = (header_.spec.value_size + size_t{7}) & ~size_t{7};
    for (size_t cpu = 0; (cpu + 1) * size <= value.size(); ++cpu) {
      text_ += "\tcpu" + std::to_string(cpu) + ": ";
      show_value(btf_, header_.btf_value_type, value.subspan(cpu * size, size), text_);
      text_ += '\n';
    }
    text_ += "}\n";
  }

  void print_key(std::span<const std::byte> key) {
    if (!shows_index(header_.spec.type)) {
      show_value(btf_, header_.btf_key_type, key, text_);
    } else if (header_.btf_key_type != 0) {
      uint32_t index;
      std::memcpy(&index, key.data(), sizeof index);
      text_ += std::to_string(index);
    } else {
      return;
    }
    text_ += ": ";
  }

  const Map& map_;
  const MapHeader& header_;
  const Btf& btf_;
  std::string text_;
};

}  // namespace

Result<std::string> map_text(Process& process, int fd) {
  const Result<FileHeader> header = process.instance->identify(fd);
  if (!header || header->kind != ObjectKind::kMap) return fail(EIO);
  const Result<std::shared_ptr<Map>> map = process.descriptors.map_of(fd);
  if (!map) return std::unexpected(map.error());
  const uint32_t btf_id = (*map)->header().btf_id;
  if (btf_id == 0 || !is_printed((*map)->spec().type)) return fail(EIO);
  const Result<FileDescriptor> file = process.instance->open_by_id(ObjectKind::kBtf, btf_id, O_RDONLY);
  if (!file) return fail(EIO);
  const Result<std::shared_ptr<const Btf>> btf = read_btf_file(file->get());
  if (!btf) return fail(EIO);
  return Printer(**map, **btf).print();
}

}  // namespace skep
