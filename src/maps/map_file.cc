// SPDX-License-Identifier: Apache-2.0
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "maps/map.h"
#include "skep/abi.h"

namespace skep {
namespace {

struct FileSizes {
  uint64_t user;
  uint64_t control;
};

/// The page-rounded sizes of a layout's windows; ENOMEM where no file could hold them.
Result<FileSizes> file_sizes(const MapLayout& layout) {
  constexpr uint64_t kLargestControl = uint64_t{1} << 46;
  if (layout.user_size > kHeaderOffset - 2 * kPageSize || layout.private_size > kLargestControl) return fail(ENOMEM);
  return FileSizes{.user = round_up(layout.user_size, kPageSize), .control = round_up(layout.private_size, kPageSize)};
}

/// Maps both windows; the user window one page longer than its content, as MapSegments says.
Result<MapSegments> map_windows(int fd, const FileSizes& sizes, Access access) {
  MapSegments segments;
  auto control = Segment::map(fd, kHeaderOffset, sizes.control, access);
  if (!control) return std::unexpected(control.error());
  segments.control = std::move(*control);
  if (sizes.user > 0) {
    auto user = Segment::map(fd, 0, sizes.user + kPageSize, access);
    if (!user) return std::unexpected(user.error());
    segments.user = std::move(*user);
  }
  return segments;
}

/// Reserves what the layout asks for and the header's page; returns how many bytes that is.
Result<uint64_t> reserve_windows(const MapSegments& segments, const MapLayout& layout, const FileSizes& sizes) {
  if (auto status = segments.control.reserve(0, kPageSize); !status) return std::unexpected(status.error());
  uint64_t reserved = 0;
  bool header_counted = false;
  for (const MapLayout::Range& range : layout.reserve) {
    if (range.length == 0) continue;
    if (auto status = segments.control.reserve(range.offset, range.length); !status) {
      return std::unexpected(status.error());
    }
    const uint64_t begin = range.offset / kPageSize * kPageSize;
    reserved += round_up(range.offset + range.length, kPageSize) - begin;
    header_counted |= begin == 0;
  }
  if (!header_counted) reserved += kPageSize;
  if (layout.reserve_user && sizes.user > 0) {
    if (auto status = segments.user.reserve(0, sizes.user); !status) return std::unexpected(status.error());
    reserved += sizes.user;
  }
  return reserved;
}

Status fill_seed(MapHeader& header) {
  if (header.spec.flags & BPF_F_ZERO_SEED) return {};
  for (size_t filled = 0; filled < sizeof(header.hash_seed);) {
    const ssize_t got =
        getrandom(reinterpret_cast<std::byte*>(header.hash_seed) + filled, sizeof(header.hash_seed) - filled, 0);
    if (got < 0 && errno != EINTR) return fail(errno);
    if (got > 0) filled += static_cast<size_t>(got);
  }
  return {};
}

std::string shape_text(const MachineShape& shape) {
  return std::to_string(shape.cpus) + " CPUs and " + std::to_string(shape.slots) + " slots";
}

/// Whether the sizes in a header are those that its kind would lay out: everything that opening a map derives from its
/// header is derived from these, so no hostile header can make a map reach outside its windows.
Result<const MapKind*> check_header(const MapHeader& header, const MachineShape& shape) {
  const MapKind* kind = find_map_kind(header.spec.type);
  if (kind == nullptr) {
    return fail_because(EINVAL,
                        "the map is of type " + std::to_string(header.spec.type) + ", which skep does not have");
  }
  if (header.shape.cpus != shape.cpus || header.shape.slots != shape.slots) {
    return fail_because(EINVAL, "the map was laid out for a machine of " + shape_text(header.shape) +
                                    ", this one has " + shape_text(shape));
  }
  MapSpec spec = header.spec;
  if (!kind->check_all(spec, shape))
    return fail_because(EINVAL, "the map's header holds attributes that its kind refuses");
  const auto layout = kind->layout(spec, shape);
  const auto sizes = layout ? file_sizes(*layout) : Result<FileSizes>(std::unexpected(layout.error()));
  if (!sizes || spec.max_entries != header.spec.max_entries || sizes->user != header.file.user_size ||
      sizes->control != header.file.private_size) {
    return fail_because(EINVAL, "the map's header and the size of its file contradict each other");
  }
  return kind;
}

}  // namespace

Result<std::unique_ptr<Map>> create_map(int fd, const MapCreation& creation, Machine& machine) {
  const MapKind* kind = find_map_kind(creation.spec.type);
  if (kind == nullptr) return fail(EINVAL);
  const MachineShape shape = machine.shape();
  if (auto status = kind->check_all(creation.spec, shape); !status) return std::unexpected(status.error());
  MapSpec spec = creation.spec;
  spec.flags &= ~uint32_t{BPF_F_RDONLY | BPF_F_WRONLY};
  const auto layout = kind->layout(spec, shape);
  if (!layout) return std::unexpected(layout.error());
  const auto sizes = file_sizes(*layout);
  if (!sizes) return std::unexpected(sizes.error());

  if (ftruncate(fd, static_cast<off_t>(kHeaderOffset + sizes->control)) != 0) {
    return fail_because(ENOMEM, std::string("cannot size the map's file: ") + std::strerror(errno));
  }
  auto segments = map_windows(fd, *sizes, Access::kReadWrite);
  if (!segments) return std::unexpected(segments.error());
  const auto reserved = reserve_windows(*segments, *layout, *sizes);
  if (!reserved) return std::unexpected(reserved.error());

  MapHeader& header = segments->header();
  header.file = make_file_header(ObjectKind::kMap, sizes->user, sizes->control);
  header.spec = spec;
  header.shape = shape;
  std::memcpy(header.name, creation.name, sizeof(header.name));
  header.btf_id = creation.btf_id;
  header.btf_key_type = creation.btf_key_type;
  header.btf_value_type = creation.btf_value_type;
  header.inner = creation.inner;
  header.created_by_uid = geteuid();
  header.memory = *reserved;
  if (auto status = fill_seed(header); !status) return std::unexpected(status.error());
  if (auto status = kind->initialise(*segments, machine); !status) return std::unexpected(status.error());
  return kind->open(std::move(*segments), machine);
}

Result<std::unique_ptr<Map>> open_map(int fd, Access access, Machine& machine) {
  const auto file = read_file_header(fd, ObjectKind::kMap);
  if (!file) return std::unexpected(file.error());
  // The header's own word on its windows is believed only as far as is needed to map the header.
  if (file->private_size < kControlOffset || file->user_size > kHeaderOffset - 2 * kPageSize ||
      file->user_size % kPageSize != 0 || file->private_size % kPageSize != 0) {
    return fail_because(EINVAL, "the map's header states impossible sizes");
  }
  auto segments = map_windows(fd, {.user = file->user_size, .control = file->private_size}, access);
  if (!segments) return std::unexpected(segments.error());
  const auto kind = check_header(segments->header(), machine.shape());
  if (!kind) return std::unexpected(kind.error());
  return (*kind)->open(std::move(*segments), machine);
}

}  // namespace skep
