// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstring>

#include "prog/helpers.h"

namespace skep::helpers {
namespace {

constexpr int64_t kEthernetHeader = 14;
constexpr uint64_t kMaxOffset = 0xffff;
constexpr int64_t kMaxMetadata = 252;  // bytes, a multiple of 4

/// The bytes [offset, offset + size) of the packet, or the errno of bpf_xdp_load_bytes().
Result<std::byte*> bytes_at(const PacketBuffer& packet, uint64_t offset, uint64_t size) {
  if (offset > kMaxOffset || size > kMaxOffset) return fail(EFAULT);
  if (offset + size > packet.length()) return fail(EINVAL);
  return packet.data + offset;
}

}  // namespace

uint64_t xdp_get_buff_len(Run& run, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  return run.xdp()->packet.length();
}

uint64_t xdp_load_bytes(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  const auto from = bytes_at(run.xdp()->packet, static_cast<uint32_t>(b), d);
  if (!from) return error_value(to_int(from.error()));
  std::memmove(memory<void>(c), *from, d);
  return 0;
}

uint64_t xdp_store_bytes(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  const auto to = bytes_at(run.xdp()->packet, static_cast<uint32_t>(b), d);
  if (!to) return error_value(to_int(to.error()));
  std::memmove(*to, memory<const void>(c), d);
  return 0;
}

uint64_t xdp_adjust_head(Run& run, uint64_t, uint64_t b, uint64_t, uint64_t, uint64_t) {
  PacketBuffer& packet = run.xdp()->packet;
  const int64_t delta = static_cast<int32_t>(b);
  const int64_t metadata = packet.data - packet.data_meta;
  const int64_t room = packet.data - packet.buffer - XdpContext::kReservedHeadroom - metadata;
  if (delta < -room || delta > packet.length() - kEthernetHeader) return error_value(EINVAL);
  std::memmove(packet.data_meta + delta, packet.data_meta, static_cast<size_t>(metadata));
  packet.data_meta += delta;
  packet.data += delta;
  run.packet_changed();
  return 0;
}

uint64_t xdp_adjust_tail(Run& run, uint64_t, uint64_t b, uint64_t, uint64_t, uint64_t) {
  PacketBuffer& packet = run.xdp()->packet;
  const int64_t delta = static_cast<int32_t>(b);
  if (delta > packet.buffer_end - packet.data_end || packet.length() + delta < kEthernetHeader) {
    return error_value(EINVAL);
  }
  if (delta > 0) std::memset(packet.data_end, 0, static_cast<size_t>(delta));
  packet.data_end += delta;
  run.packet_changed();
  return 0;
}

uint64_t xdp_adjust_meta(Run& run, uint64_t, uint64_t b, uint64_t, uint64_t, uint64_t) {
  PacketBuffer& packet = run.xdp()->packet;
  const int64_t delta = static_cast<int32_t>(b);
  const int64_t metadata = packet.data - packet.data_meta - delta;
  const int64_t room = packet.data - packet.buffer - XdpContext::kReservedHeadroom;
  if (metadata > room || metadata < 0) return error_value(EINVAL);
  if (metadata % 4 != 0 || metadata > kMaxMetadata) return error_value(EACCES);
  packet.data_meta += delta;
  run.packet_changed();
  return 0;
}

}  // namespace skep::helpers
