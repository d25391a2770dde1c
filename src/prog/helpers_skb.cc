// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <climits>
#include <cstring>

#include "prog/checksum.h"
#include "prog/helpers.h"

namespace skep::helpers {
namespace {

constexpr uint64_t kRecomputeChecksum = 1, kInvalidateHash = 2;
constexpr uint64_t kFieldSizeMask = 0xf;
constexpr uint64_t kPseudoHeader = 0x10, kMarkMangledZero = 0x20, kMarkEnforce = 0x40, kIpv6 = 0x80;
constexpr uint16_t kMangledZero = 0xffff;
constexpr uint32_t kOtherHost = 3;  // PACKET_OTHERHOST

/// The bytes [offset, offset + size) counted from `from`; null when the packet does not have them.
std::byte* bytes_at(const SkbContext& skb, std::byte* from, uint64_t offset, uint64_t size) {
  if (from == nullptr || from > skb.packet.data_end || offset > INT_MAX) return nullptr;
  return offset + size <= static_cast<uint64_t>(skb.packet.data_end - from) ? from + offset : nullptr;
}

uint64_t load_bytes(const SkbContext& skb, std::byte* from, uint64_t offset, uint64_t to, uint64_t size) {
  const std::byte* found = bytes_at(skb, from, offset, size);
  if (found == nullptr) {
    std::memset(memory<void>(to), 0, size);
    return error_value(EFAULT);
  }
  std::memmove(memory<void>(to), found, size);
  return 0;
}

/// The checksum field at `offset`; null: not there, or not aligned.
std::byte* checksum_field(const SkbContext& skb, uint64_t offset) {
  if (offset > 0xffff || offset % 2 != 0) return nullptr;
  return bytes_at(skb, skb.packet.data, offset, sizeof(uint16_t));
}

uint16_t read_field(const std::byte* field) {
  uint16_t value;
  std::memcpy(&value, field, sizeof value);
  return value;
}

/// The new value of a checksum field after `from` became `to`, where flags give their size; errno otherwise.
Result<uint16_t> replaced(uint16_t check, uint64_t from, uint64_t to, uint64_t flags) {
  switch (flags & kFieldSizeMask) {
    case 0:
      if (from != 0) return fail(EINVAL);
      return checksum::replace_by_difference(check, static_cast<uint32_t>(to));
    case 2:
      return checksum::replace2(check, static_cast<uint16_t>(from), static_cast<uint16_t>(to));
    case 4:
      return checksum::replace4(check, static_cast<uint32_t>(from), static_cast<uint32_t>(to));
    default:
      return fail(EINVAL);
  }
}

}  // namespace

uint64_t skb_load_bytes(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  return load_bytes(*run.skb(), run.skb()->packet.data, static_cast<uint32_t>(b), c, d);
}

uint64_t skb_load_bytes_relative(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  const SkbContext& skb = *run.skb();
  std::byte* const start = static_cast<uint32_t>(e) == 0   ? skb.mac_header
                           : static_cast<uint32_t>(e) == 1 ? skb.network_header
                                                           : nullptr;
  return load_bytes(skb, start, static_cast<uint32_t>(b), c, d);
}

uint64_t skb_store_bytes(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  if ((e & ~(kRecomputeChecksum | kInvalidateHash)) != 0) return error_value(EINVAL);
  SkbContext& skb = *run.skb();
  std::byte* to = bytes_at(skb, skb.packet.data, static_cast<uint32_t>(b), d);
  if (to == nullptr) return error_value(EFAULT);
  std::memmove(to, memory<const void>(c), d);
  if ((e & kInvalidateHash) != 0) skb.fields.hash = 0;
  return 0;
}

uint64_t skb_pull_data(Run& run, uint64_t, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return static_cast<uint32_t>(b) <= run.skb()->packet.length() ? 0 : error_value(ENOMEM);
}

uint64_t skb_change_type(Run& run, uint64_t, uint64_t b, uint64_t, uint64_t, uint64_t) {
  uint32_t& type = run.skb()->fields.pkt_type;
  if (type > kOtherHost || static_cast<uint32_t>(b) > kOtherHost) return error_value(EINVAL);
  type = static_cast<uint32_t>(b);
  return 0;
}

uint64_t l3_csum_replace(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  if ((e & ~kFieldSizeMask) != 0) return error_value(EINVAL);
  std::byte* field = checksum_field(*run.skb(), static_cast<uint32_t>(b));
  if (field == nullptr) return error_value(EFAULT);
  const auto value = replaced(read_field(field), c, d, e);
  if (!value) return error_value(to_int(value.error()));
  std::memcpy(field, &*value, sizeof *value);
  return 0;
}

uint64_t l4_csum_replace(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  if ((e & ~(kFieldSizeMask | kPseudoHeader | kMarkMangledZero | kMarkEnforce | kIpv6)) != 0) {
    return error_value(EINVAL);
  }
  std::byte* field = checksum_field(*run.skb(), static_cast<uint32_t>(b));
  if (field == nullptr) return error_value(EFAULT);
  const bool mark_zero = (e & kMarkMangledZero) != 0;
  const uint16_t old = read_field(field);
  if (mark_zero && (e & kMarkEnforce) == 0 && old == 0) return 0;
  auto value = replaced(old, c, d, e);
  if (!value) return error_value(to_int(value.error()));
  if (mark_zero && *value == 0) value = kMangledZero;
  std::memcpy(field, &*value, sizeof *value);
  return 0;
}

uint64_t csum_diff(Run&, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  if ((b | d) % 4 != 0) return error_value(EINVAL);
  uint32_t sum = static_cast<uint32_t>(e);
  if (d != 0) sum = checksum::partial(memory<const void>(c), d, sum);
  if (b != 0) sum = checksum::add(sum, ~checksum::partial(memory<const void>(a), b, 0));
  return checksum::fold(sum);
}

uint64_t csum_update(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  return error_value(kEnotsupp);  // the answer for a packet whose checksum no device has computed
}

uint64_t set_hash(Run& run, uint64_t, uint64_t b, uint64_t, uint64_t, uint64_t) {
  run.skb()->fields.hash = static_cast<uint32_t>(b);
  return 0;
}

uint64_t set_hash_invalid(Run& run, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  run.skb()->fields.hash = 0;
  return 0;
}

}  // namespace skep::helpers
