// SPDX-License-Identifier: Apache-2.0
// Pass 1: the header, where the sections lie, and the string section.
#include <algorithm>
#include <cstring>

#include "btf/btf_checker.h"
#include "btf/btf_special_fields.h"

namespace skep {
namespace {

struct Header {
  uint16_t magic;
  uint8_t version;
  uint8_t flags;
  uint32_t header_size;
  uint32_t types_offset;  // from the end of the header, like the other offset
  uint32_t types_size;
  uint32_t strings_offset;
  uint32_t strings_size;
};
static_assert(sizeof(Header) == 24);
constexpr uint16_t kMagic = 0xeb9f;
constexpr uint32_t kMaxNameOffset = 0xffffff;

}  // namespace

Result<std::shared_ptr<const Btf>> BtfChecker::check() {
  if (raw_.size() > Btf::kMaxSize) return fail(E2BIG);
  btf_ = std::shared_ptr<Btf>(new Btf());
  for (auto pass : {&BtfChecker::check_header, &BtfChecker::check_strings, &BtfChecker::collect_types,
                    &BtfChecker::resolve_all, &BtfChecker::check_tag_order}) {
    if (Status status = (this->*pass)(); !status) return std::unexpected(status.error());
  }
  if (Status status = check_struct_fields(*btf_); !status) return std::unexpected(status.error());
  return std::shared_ptr<const Btf>(std::move(btf_));
}

Status BtfChecker::check_header() {
  Header header{};
  const auto size = static_cast<uint32_t>(raw_.size());
  if (size < offsetof(Header, types_offset)) {
    log_.print("hdr_len not found\n");
    return fail(EINVAL);
  }
  std::memcpy(&header.header_size, raw_.data() + offsetof(Header, header_size), sizeof header.header_size);
  if (size < header.header_size) {
    log_.print("btf_header not found\n");
    return fail(EINVAL);
  }
  // A longer header is one of a later release: fine as long as it says nothing more.
  for (uint32_t i = sizeof(Header); i < header.header_size; ++i) {
    if (raw_[i] != std::byte{0}) {
      log_.print("Unsupported btf_header\n");
      return fail(E2BIG);
    }
  }
  std::memcpy(&header, raw_.data(), std::min<size_t>(header.header_size, sizeof header));
  log_.print("magic: 0x%x\nversion: %u\nflags: 0x%x\nhdr_len: %u\ntype_off: %u\ntype_len: %u\nstr_off: %u\n",
             header.magic, header.version, header.flags, header.header_size, header.types_offset, header.types_size,
             header.strings_offset);
  log_.print("str_len: %u\nbtf_total_size: %u\n", header.strings_size, size);
  if (header.magic != kMagic) {
    log_.print("Invalid magic\n");
    return fail(EINVAL);
  }
  if (header.version != 1) {
    log_.print("Unsupported version\n");
    return fail(kEnotsupp);
  }
  if (header.flags != 0) {
    log_.print("Unsupported flags\n");
    return fail(kEnotsupp);
  }
  if (size == header.header_size) {
    log_.print("No data\n");
    return fail(EINVAL);
  }
  btf_->raw_.assign(raw_.begin(), raw_.end());
  types_offset_ = header.types_offset;
  types_size_ = header.types_size;
  btf_->strings_offset_ = header.strings_offset;
  btf_->strings_size_ = header.strings_size;
  return check_sections(header.header_size);
}

Status BtfChecker::check_sections(uint32_t header_size) {
  struct Section {
    uint32_t offset, size;
  };
  Section sections[] = {{types_offset_, types_size_}, {btf_->strings_offset_, btf_->strings_size_}};
  if (sections[1].offset < sections[0].offset) std::swap(sections[0], sections[1]);
  const uint32_t expected = static_cast<uint32_t>(raw_.size()) - header_size;
  uint32_t total = 0;
  const char* problem = nullptr;
  for (const Section& section : sections) {
    if (expected < section.offset) {
      problem = "Invalid section offset\n";
    } else if (total < section.offset) {
      problem = "Unsupported section found\n";
    } else if (total > section.offset) {
      problem = "Section overlap found\n";
    } else if (expected - total < section.size) {
      problem = "Total section length too long\n";
    }
    if (problem != nullptr) break;
    total += section.size;
  }
  if (problem == nullptr && expected != total) problem = "Unsupported section found\n";
  if (problem != nullptr) {
    log_.print("%s", problem);
    return fail(EINVAL);
  }
  types_offset_ += header_size;
  btf_->strings_offset_ += header_size;
  return {};
}

Status BtfChecker::check_strings() {
  const uint32_t begin = btf_->strings_offset_, size = btf_->strings_size_;
  if (uint64_t{begin} + size != raw_.size()) {
    log_.print("String section is not at the end\n");
    return fail(EINVAL);
  }
  const auto& raw = btf_->raw_;
  if (size == 0 || size - 1 > kMaxNameOffset || raw[begin] != std::byte{0} || raw[begin + size - 1] != std::byte{0}) {
    log_.print("Invalid string section\n");
    return fail(EINVAL);
  }
  return {};
}

}  // namespace skep
