// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "memory/result.h"

namespace skep {

/// Where the private part of every object file begins; the user-visible part (array values, ...) begins at 0.
///
/// An object file is sparse: the bytes that a plain mmap(2) of its descriptor is meant to see stand at offset 0 in the
/// kernel's own layout, and skep's header and control data 1 TiB behind it, where no such mmap reaches.
inline constexpr uint64_t kHeaderOffset = uint64_t{1} << 40;
inline constexpr uint64_t kPageSize = 4096;

/// Raised whenever the bytes of any segment change meaning. Files of another version are refused.
inline constexpr uint32_t kLayoutVersion = 4;

enum class ObjectKind : uint32_t {
  kMap = 1,
  kProgram = 2,
  kBtf = 3,
  kLink = 4,
  kMachine = 5,
  kPerfEvent = 6,
  kOwners = 7
};

/// The first bytes at kHeaderOffset of every object file. Written once before publication, then constant, except for
/// `id`, which is stored before the file gets its name.
struct FileHeader {
  char magic[8];            // "skep\r\n\x1a\0"
  uint32_t layout_version;  // kLayoutVersion
  ObjectKind kind;
  uint64_t user_size;     // bytes from offset 0, page rounded
  uint64_t private_size;  // bytes from kHeaderOffset, page rounded; the file ends exactly there
  uint32_t id;            // the object's id, unique per kind within the instance
  uint32_t page_size;     // kPageSize
};
static_assert(sizeof(FileHeader) == 40);

/// Fills the header of a new file.
FileHeader make_file_header(ObjectKind kind, uint64_t user_size, uint64_t private_size);

/// Reads the header of an open object file with pread(2) and checks magic, version, kind and that the file really is
/// kHeaderOffset + private_size long: EINVAL (with a sentence that tells what is wrong) for anything else. This runs
/// before anything is mapped, so a truncated or hostile file is never mapped past its end.
Result<FileHeader> read_file_header(int fd, ObjectKind expected);
/// The same for a file whose kind is not known beforehand.
Result<FileHeader> read_file_header(int fd);

[[nodiscard]] constexpr uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace skep
