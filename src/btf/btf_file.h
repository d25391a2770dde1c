// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "btf/btf.h"
#include "memory/file_header.h"
#include "memory/result.h"

namespace skep {

/// The file of a BTF object: this header at kHeaderOffset, the raw bytes right behind it, nothing at offset 0.
/// Constant once published.
struct BtfFileHeader {
  FileHeader file;
  uint32_t raw_size;  // bytes
  uint32_t reserved;
};
static_assert(sizeof(BtfFileHeader) == 48);

/// Fills `fd`, an empty file open for writing, with checked BTF. ENOMEM: the file system is full.
Status write_btf_file(int fd, std::span<const std::byte> raw);

/// Stores the id of an object in its file's header, as Instance::publish asks for it.
void store_file_id(int fd, uint32_t id);

/// Reads and checks the BTF in `fd` again: whoever could write the file cannot make this process trust it.
Result<std::shared_ptr<const Btf>> read_btf_file(int fd);

/// pwrite(2) of all of it, pread(2) of all of it: ENOMEM when the file system is full, EINVAL at the end of the file.
Status write_fully(int fd, const void* from, size_t size, uint64_t offset);
Status read_fully(int fd, void* to, size_t size, uint64_t offset);

}  // namespace skep
