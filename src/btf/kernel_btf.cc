// SPDX-License-Identifier: Apache-2.0
#include "btf/kernel_btf.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace skep {
namespace {

constexpr size_t kMaxFile = size_t{64} << 20;  // bytes; Linux 6.18 has 5.5 million
constexpr uint16_t kMagic = 0xeb9f;
constexpr uint32_t kMaxDepth = 32;  // of structs in structs and of modifiers

/// The places in the header of what is read of it.
enum Header : size_t { kHeaderLength = 4, kTypesOffset = 8, kTypesLength = 12, kStringsOffset = 16, kHeaderEnd = 24 };

Result<std::vector<char>> read_whole(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const char* what =
        errno == ENOENT ? "the running kernel shows no types (CONFIG_DEBUG_INFO_BTF): no " : "cannot open ";
    return fail_because(errno, std::string(what) + path);
  }
  std::vector<char> bytes;
  size_t size = 0;
  ssize_t got = 1;
  while (size < kMaxFile) {
    bytes.resize(size + (size_t{1} << 20));
    got = ::read(fd, bytes.data() + size, bytes.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  const int error = errno;
  ::close(fd);
  if (got < 0) return fail_because(error, std::string("cannot read ") + path);
  bytes.resize(size);
  return bytes;
}

/// How many words follow the three of every type; -1: not a kind that is known.
int64_t extra_words(BtfKind kind, uint32_t vlen) {
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
      return int64_t{3} * vlen;
    case BtfKind::kEnum:
    case BtfKind::kFuncProto:
      return int64_t{2} * vlen;
    case BtfKind::kPtr:
    case BtfKind::kFwd:
    case BtfKind::kTypedef:
    case BtfKind::kVolatile:
    case BtfKind::kConst:
    case BtfKind::kRestrict:
    case BtfKind::kFunc:
    case BtfKind::kFloat:
    case BtfKind::kTypeTag:
      return 0;
    case BtfKind::kVoid:
      break;
  }
  return -1;
}

}  // namespace

Result<KernelBtf> KernelBtf::read(const char* path) {
  auto bytes = read_whole(path);
  if (!bytes) return std::unexpected(bytes.error());
  KernelBtf types;
  types.bytes_ = std::move(*bytes);
  if (const Status indexed = types.index_types(); !indexed) {
    return fail_because(to_int(indexed.error()), std::string(path) + " holds no types that skep understands");
  }
  return types;
}

Status KernelBtf::index_types() {
  if (bytes_.size() < kHeaderEnd || (word_at(0) & 0xffff) != kMagic) return fail(EINVAL);
  const size_t header = word_at(kHeaderLength);
  size_t at = header + word_at(kTypesOffset);
  const size_t end = at + word_at(kTypesLength);
  strings_ = header + word_at(kStringsOffset);
  if (end > bytes_.size() || strings_ > bytes_.size()) return fail(EINVAL);
  offsets_.push_back(0);
  while (at + 3 * sizeof(uint32_t) <= end) {
    const uint32_t info = word_at(at + sizeof(uint32_t));
    const int64_t extra = extra_words(static_cast<BtfKind>(info >> 24 & 31), info & 0xffff);
    if (extra < 0) return fail(EINVAL);
    offsets_.push_back(static_cast<uint32_t>(at));
    at += (3 + static_cast<size_t>(extra)) * sizeof(uint32_t);
  }
  return at == end ? Status() : fail(EINVAL);
}

uint32_t KernelBtf::word_at(size_t at) const {
  uint32_t word = 0;
  std::memcpy(&word, bytes_.data() + at, sizeof word);
  return word;
}

uint32_t KernelBtf::word(uint32_t id, uint32_t index) const {
  return id == 0 || id >= type_count() ? 0 : word_at(offsets_[id] + index * sizeof(uint32_t));
}

BtfKind KernelBtf::kind_of(uint32_t id) const { return static_cast<BtfKind>(word(id, 1) >> 24 & 31); }

std::string_view KernelBtf::string_at(uint32_t offset) const {
  const size_t at = strings_ + offset;
  if (at >= bytes_.size()) return "";
  return {bytes_.data() + at, ::strnlen(bytes_.data() + at, bytes_.size() - at)};
}

std::string_view KernelBtf::name(uint32_t id) const { return string_at(word(id, 0)); }

uint32_t KernelBtf::find(BtfKind kind, std::string_view name) const {
  for (uint32_t id = 1; id < type_count(); ++id)
    if (kind_of(id) == kind && this->name(id) == name) return id;
  return 0;
}

uint32_t KernelBtf::skip_modifiers(uint32_t id) const {
  for (uint32_t depth = 0; depth < kMaxDepth; ++depth) {
    switch (kind_of(id)) {
      case BtfKind::kTypedef:
      case BtfKind::kVolatile:
      case BtfKind::kConst:
      case BtfKind::kRestrict:
      case BtfKind::kTypeTag:
        id = word(id, 2);
        break;
      default:
        return id;
    }
  }
  return 0;
}

uint64_t KernelBtf::size_of(uint32_t id) const {
  id = skip_modifiers(id);
  switch (kind_of(id)) {
    case BtfKind::kPtr:
      return sizeof(void*);
    case BtfKind::kInt:
    case BtfKind::kStruct:
    case BtfKind::kUnion:
    case BtfKind::kEnum:
    case BtfKind::kEnum64:
    case BtfKind::kFloat:
      return word(id, 2);
    default:
      return 0;
  }
}

Result<KernelBtf::Member> KernelBtf::member(uint32_t struct_id, std::string_view name) const {
  return member_within(skip_modifiers(struct_id), name, 0);
}

Result<KernelBtf::Member> KernelBtf::member_within(uint32_t struct_id, std::string_view name, uint32_t depth) const {
  const BtfKind kind = kind_of(struct_id);
  if ((kind != BtfKind::kStruct && kind != BtfKind::kUnion) || depth == kMaxDepth) return fail(ENOENT);
  const uint32_t info = word(struct_id, 1);
  const bool bit_fields = (info >> 31) != 0;
  for (uint32_t i = 0; i < (info & 0xffff); ++i) {
    const uint32_t type = word(struct_id, 4 + 3 * i), place = word(struct_id, 5 + 3 * i);
    const uint32_t bits = bit_fields ? place & 0xffffff : place;
    const uint32_t width = bit_fields ? place >> 24 : 0;
    const std::string_view own = string_at(word(struct_id, 3 + 3 * i));
    if (own.empty()) {
      const auto inner = member_within(skip_modifiers(type), name, depth + 1);
      if (inner) return Member{.offset = bits / 8 + inner->offset, .type = inner->type};
    } else if (own == name) {
      if (width != 0 || bits % 8 != 0) return fail(ENOENT);
      return Member{.offset = bits / 8, .type = type};
    }
  }
  return fail(ENOENT);
}

}  // namespace skep
