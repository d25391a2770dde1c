// SPDX-License-Identifier: Apache-2.0
#include "btf/btf_file.h"

#include <unistd.h>

#include <vector>

namespace skep {

Status write_fully(int fd, const void* from, size_t size, uint64_t offset) {
  const auto* at = static_cast<const char*>(from);
  while (size > 0) {
    const ssize_t written = ::pwrite(fd, at, size, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      if (errno == ENOSPC)
        return fail_because(ENOMEM, "the file system of the instance is full (SKEP_DIR names another)");
      return fail(errno);
    }
    at += written;
    offset += static_cast<uint64_t>(written);
    size -= static_cast<size_t>(written);
  }
  return {};
}

Status read_fully(int fd, void* to, size_t size, uint64_t offset) {
  auto* at = static_cast<char*>(to);
  while (size > 0) {
    const ssize_t got = ::pread(fd, at, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno);
    if (got == 0) return fail_because(EINVAL, "the file of an object ends too early");
    at += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<size_t>(got);
  }
  return {};
}

Status write_btf_file(int fd, std::span<const std::byte> raw) {
  const uint64_t size = round_up(sizeof(BtfFileHeader) + raw.size(), kPageSize);
  BtfFileHeader header{};
  header.file = make_file_header(ObjectKind::kBtf, 0, size);
  header.raw_size = static_cast<uint32_t>(raw.size());
  if (::ftruncate(fd, static_cast<off_t>(kHeaderOffset + size)) != 0) return fail(errno == ENOSPC ? ENOMEM : errno);
  if (Status status = write_fully(fd, &header, sizeof header, kHeaderOffset); !status) return status;
  return write_fully(fd, raw.data(), raw.size(), kHeaderOffset + sizeof header);
}

void store_file_id(int fd, uint32_t id) {
  (void)write_fully(fd, &id, sizeof id, kHeaderOffset + offsetof(FileHeader, id));
}

Result<std::shared_ptr<const Btf>> read_btf_file(int fd) {
  const auto file = read_file_header(fd, ObjectKind::kBtf);
  if (!file) return std::unexpected(file.error());
  BtfFileHeader header{};
  if (Status status = read_fully(fd, &header, sizeof header, kHeaderOffset); !status) {
    return std::unexpected(status.error());
  }
  if (header.raw_size > Btf::kMaxSize || header.raw_size > file->private_size - sizeof header) {
    return fail_because(EINVAL, "a BTF file whose size does not fit");
  }
  std::vector<std::byte> raw(header.raw_size);
  if (Status status = read_fully(fd, raw.data(), raw.size(), kHeaderOffset + sizeof header); !status) {
    return std::unexpected(status.error());
  }
  return Btf::parse(raw);
}

}  // namespace skep
