// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

#include "memory/segment.h"
#include "syscall/commands.h"

namespace skep {

/// The file of a link: at kHeaderOffset, nothing at offset 0. Of the kernel's links there is one: an iterator's program
/// and the map whose elements it is run on.
///
/// Invariants
///   1. The link holds its map, and every program that `program` names holds from before it stands there.
///   2. A program leaves `program` by one exchange; whoever made that exchange drops its hold.
struct LinkFile {
  FileHeader file;
  uint32_t type;                  // BPF_LINK_TYPE_*
  uint32_t map;                   // id; constant
  std::atomic<uint32_t> program;  // id; changed by BPF_LINK_UPDATE
  uint32_t reserved;
};
static_assert(sizeof(LinkFile) == 56);

/// What a process keeps of a link. Any thread.
class LinkFace : public ObjectFace {
 public:
  explicit LinkFace(Segment segment) : segment_(std::move(segment)) {}
  [[nodiscard]] LinkFile& link() const { return *reinterpret_cast<LinkFile*>(segment_.data()); }
  [[nodiscard]] bool writable() const { return segment_.writable(); }

 private:
  const Segment segment_;
};

/// The face of an object whose kind is kLink.
const LinkFace& link_of(const OpenObject& object);

/// Runs the link's program on every element of its map and once more at the end: the text that it wrote, as a new
/// read-only, close-on-exec descriptor. Errors of the program's run, and what reading would end with on Linux: EAGAIN,
/// the program asks for the same element again and again; E2BIG, it writes 32 KiB or more for one element.
Result<FileDescriptor> iterate(Process& process, const LinkFile& link);

/// The same for a link's file that is open for reading; EIO: something else.
Result<FileDescriptor> iterate_link(Process& process, int fd);

}  // namespace skep
