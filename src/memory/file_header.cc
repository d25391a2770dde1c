// SPDX-License-Identifier: Apache-2.0
#include "memory/file_header.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace skep {
namespace {

constexpr char kMagic[8] = {'s', 'k', 'e', 'p', '\r', '\n', '\x1a', '\0'};
constexpr uint64_t kMaxPart = uint64_t{1} << 40;  // neither part of a file can be larger: the other would be in its way

const char* kind_name(ObjectKind kind) {
  switch (kind) {
    case ObjectKind::kMap:
      return "map";
    case ObjectKind::kProgram:
      return "program";
    case ObjectKind::kBtf:
      return "BTF";
    case ObjectKind::kLink:
      return "link";
    case ObjectKind::kMachine:
      return "machine";
    case ObjectKind::kPerfEvent:
      return "perf event";
    case ObjectKind::kOwners:
      return "owners";
  }
  return "object of an unknown kind";
}

std::unexpected<Errno> refuse(const std::string& why) { return fail_because(EINVAL, "not a usable skep file: " + why); }

Status check(const FileHeader& header, uint64_t file_size) {
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) return refuse("it does not begin with skep's magic");
  if (header.layout_version != kLayoutVersion) {
    return refuse("it has layout version " + std::to_string(header.layout_version) + ", this skep reads version " +
                  std::to_string(kLayoutVersion));
  }
  if (header.kind < ObjectKind::kMap || header.kind > ObjectKind::kOwners) {
    return refuse("it has object kind " + std::to_string(static_cast<uint32_t>(header.kind)) + ", which is unknown");
  }
  if (header.page_size != kPageSize) return refuse("it has pages of " + std::to_string(header.page_size) + " bytes");
  if (header.user_size % kPageSize != 0 || header.private_size % kPageSize != 0 || header.user_size >= kMaxPart ||
      header.private_size >= kMaxPart || header.private_size == 0) {
    return refuse("its parts have impossible sizes, " + std::to_string(header.user_size) + " and " +
                  std::to_string(header.private_size) + " bytes");
  }
  if (file_size != kHeaderOffset + header.private_size) {
    return refuse("it is " + std::to_string(file_size) + " bytes long instead of " +
                  std::to_string(kHeaderOffset + header.private_size) + ": truncated or overwritten");
  }
  return {};
}

}  // namespace

FileHeader make_file_header(ObjectKind kind, uint64_t user_size, uint64_t private_size) {
  FileHeader header{};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.layout_version = kLayoutVersion;
  header.kind = kind;
  header.user_size = round_up(user_size, kPageSize);
  header.private_size = round_up(private_size, kPageSize);
  header.page_size = static_cast<uint32_t>(kPageSize);
  return header;
}

Result<FileHeader> read_file_header(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return fail(errno);
  if (!S_ISREG(status.st_mode)) return refuse("it is not a regular file");
  FileHeader header;
  const ssize_t got = pread(fd, &header, sizeof(header), static_cast<off_t>(kHeaderOffset));
  if (got < 0) return fail(errno);
  if (static_cast<size_t>(got) != sizeof(header)) return refuse("it ends before its header");
  if (auto checked = check(header, static_cast<uint64_t>(status.st_size)); !checked) {
    return std::unexpected(checked.error());
  }
  return header;
}

Result<FileHeader> read_file_header(int fd, ObjectKind expected) {
  auto header = read_file_header(fd);
  if (header && header->kind != expected) {
    return refuse(std::string("it holds a ") + kind_name(header->kind) + " where a " + kind_name(expected) +
                  " was expected");
  }
  return header;
}

}  // namespace skep
