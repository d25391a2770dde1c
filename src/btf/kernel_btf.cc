// SPDX-License-Identifier: Apache-2.0
#include "btf/kernel_btf.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "btf/btf.h"

namespace skep {
namespace {

constexpr size_t kHeaderWords = 6;
constexpr size_t kMaxFile = size_t{64} << 20;

std::vector<char> read_whole(const char* path) {
  std::vector<char> bytes;
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return bytes;
  size_t size = 0;
  for (ssize_t got = 1; got > 0 && size < kMaxFile; size += static_cast<size_t>(got)) {
    bytes.resize(size + (size_t{1} << 20));
    got = ::read(fd, bytes.data() + size, bytes.size() - size);
    if (got < 0) got = 0;
  }
  ::close(fd);
  bytes.resize(size);
  return bytes;
}

uint32_t word_at(const std::vector<char>& bytes, size_t at) {
  uint32_t word = 0;
  if (at + sizeof word <= bytes.size()) std::memcpy(&word, bytes.data() + at, sizeof word);
  return word;
}

/// Words that follow the three of every type.
size_t extra_words(BtfKind kind, uint32_t vlen) {
  switch (kind) {
    case BtfKind::kInt:
    case BtfKind::kVar:
    case BtfKind::kDeclTag:
      return 1;
    case BtfKind::kArray:
      return 3;
    case BtfKind::kStruct:
    case BtfKind::kUnion:
    case BtfKind::kDatasec:
    case BtfKind::kEnum64:
      return size_t{3} * vlen;
    case BtfKind::kEnum:
    case BtfKind::kFuncProto:
      return size_t{2} * vlen;
    default:
      return 0;
  }
}

}  // namespace

Status for_each_kernel_function(const std::function<bool(uint32_t id, std::string_view name)>& visit) {
  const std::vector<char> bytes = read_whole("/sys/kernel/btf/vmlinux");
  if (bytes.size() < kHeaderWords * sizeof(uint32_t)) {
    return fail_because(ENOENT, "this kernel shows no BTF in /sys/kernel/btf/vmlinux");
  }
  const size_t header = word_at(bytes, 4);
  size_t at = header + word_at(bytes, 8);
  const size_t end = at + word_at(bytes, 12), strings = header + word_at(bytes, 16);
  for (uint32_t id = 1; at < end && at < bytes.size(); ++id) {
    const uint32_t info = word_at(bytes, at + 4);
    const auto kind = static_cast<BtfKind>(info >> 24 & 31);
    const size_t name = strings + word_at(bytes, at);
    if (kind == BtfKind::kFunc && name < bytes.size()) {
      const size_t length = ::strnlen(bytes.data() + name, bytes.size() - name);
      if (!visit(id, {bytes.data() + name, length})) return {};
    }
    at += (3 + extra_words(kind, info & 0xffff)) * sizeof(uint32_t);
  }
  return {};
}

Result<std::string> kernel_function(uint32_t id) {
  std::string found;
  const Status status = for_each_kernel_function([&](uint32_t current, std::string_view name) {
    if (current == id) found = name;
    return current < id;
  });
  if (!status) return std::unexpected(status.error());
  if (found.empty()) return fail_because(EINVAL, "the id is that of no function of this kernel");
  return found;
}

Result<uint32_t> kernel_function_id(std::string_view wanted) {
  uint32_t found = 0;
  const Status status = for_each_kernel_function([&](uint32_t id, std::string_view name) {
    if (name == wanted) found = id;
    return found == 0;
  });
  if (!status) return std::unexpected(status.error());
  if (found == 0) return fail_because(EINVAL, "this kernel has no function of that name");
  return found;
}

}  // namespace skep
