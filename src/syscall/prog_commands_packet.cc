// SPDX-License-Identifier: Apache-2.0
// BPF_PROG_TEST_RUN of the types that run on packets.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "syscall/prog_commands_run.h"

namespace skep {
namespace {

// The geometry of the kernel's buffers: a page, with room in front for headers and behind for its own bookkeeping.
constexpr uint32_t kBuffer = 4096;
constexpr uint32_t kTail = 320;
constexpr uint32_t kSkbHeadroom = 64;
constexpr uint32_t kXdpHeadroom = 256;
constexpr uint32_t kMaxFragments = 17;
constexpr uint32_t kEthernetHeader = 14;
constexpr uint32_t kLoopback = 1;  // the only device there is
constexpr uint32_t kMaxWireLength = 65536, kMaxSegments = 65535;

struct Window {
  size_t begin, end;
};
template <class T>
bool all_zero(const T& value, Window window) {
  const auto* bytes = reinterpret_cast<const char*>(&value);
  return std::all_of(bytes + window.begin, bytes + window.end, [](char byte) { return byte == 0; });
}

/// The fields of a given __sk_buff that a test may set; all others must be zero.
Status check_given(const UserSkBuff& given, uint32_t length) {
  constexpr Window kUnused[] = {{0, offsetof(UserSkBuff, mark)},
                                {offsetof(UserSkBuff, queue_mapping), offsetof(UserSkBuff, priority)},
                                {offsetof(UserSkBuff, tc_index), offsetof(UserSkBuff, cb)},
                                {offsetof(UserSkBuff, hash), offsetof(UserSkBuff, tstamp)},
                                {offsetof(UserSkBuff, sk), offsetof(UserSkBuff, gso_size)},
                                {offsetof(UserSkBuff, tstamp_type), offsetof(UserSkBuff, hwtstamp)}};
  for (const Window window : kUnused) {
    if (!all_zero(given, window)) return fail(EINVAL);
  }
  if (given.ifindex > kLoopback) return fail(ENODEV);
  if (given.wire_len != 0 && (given.wire_len < length || given.wire_len > kMaxWireLength)) return fail(EINVAL);
  return given.gso_segs > kMaxSegments ? Status(fail(EINVAL)) : Status{};
}

uint32_t packet_type(const unsigned char* destination) {
  constexpr unsigned char kOwn[6] = {};  // the loopback device's address
  if ((destination[0] & 1) != 0) return 2;
  return std::memcmp(destination, kOwn, 6) == 0 ? 0 : 3;
}

/// The protocol of an Ethernet header, in network byte order.
uint16_t ethernet_protocol(const unsigned char* header) {
  constexpr uint16_t kFirstProtocol = 0x0600, k8023 = 0x0001, k8022 = 0x0004;
  uint16_t protocol;
  std::memcpy(&protocol, header + 12, sizeof protocol);
  if (ntohs(protocol) >= kFirstProtocol) return protocol;
  const bool raw_ipx = header[kEthernetHeader] == 0xff && header[kEthernetHeader + 1] == 0xff;
  return htons(raw_ipx ? k8023 : k8022);
}

/// What the kernel derives from the headers of a packet of `size` bytes.
void derive_fields(const unsigned char* packet, uint32_t size, UserSkBuff& fields) {
  const unsigned char* network = packet + kEthernetHeader;
  const uint32_t network_size = size - kEthernetHeader;
  unsigned char padded[kEthernetHeader + 2] = {};
  std::memcpy(padded, packet, std::min<size_t>(size, sizeof padded));
  const uint16_t protocol = ethernet_protocol(padded);
  fields.protocol = protocol;
  fields.pkt_type = packet_type(packet);
  if (protocol == htons(0x0800) && network_size >= 20) {
    fields.family = AF_INET;
    std::memcpy(&fields.local_ip4, network + 12, 4);
    std::memcpy(&fields.remote_ip4, network + 16, 4);
  } else if (protocol == htons(0x86dd) && network_size >= 40) {
    fields.family = AF_INET6;
    std::memcpy(fields.local_ip6, network + 8, 16);
    std::memcpy(fields.remote_ip6, network + 24, 16);
  }
}

}  // namespace

Answer TestRun::run_skb() {
  if ((test_.flags & ~static_cast<uint32_t>(BPF_F_TEST_SKB_CHECKSUM_COMPLETE)) != 0 || test_.cpu != 0 ||
      test_.batch_size != 0) {
    return fail(EINVAL);
  }
  const uint32_t size = test_.data_size_in;
  if (size < kEthernetHeader || size > kBuffer - kSkbHeadroom - kTail) return fail(EINVAL);
  alignas(8) std::byte buffer[kBuffer] = {};
  std::byte* packet = buffer + kSkbHeadroom;
  if (Status status = read_data(packet, 0, size); !status) return std::unexpected(status.error());
  UserSkBuff given{};
  if (Status status = read_context(&given, sizeof given); !status) return std::unexpected(status.error());

  // Only traffic control sees the Ethernet header as part of the packet.
  const bool ethernet = face_.image().facts.type == BPF_PROG_TYPE_SCHED_CLS;
  SkbContext context;
  context.packet = {.buffer = buffer,
                    .data_meta = packet + (ethernet ? 0 : kEthernetHeader),
                    .data = packet + (ethernet ? 0 : kEthernetHeader),
                    .data_end = packet + size,
                    .buffer_end = buffer + kBuffer - kTail};
  context.mac_header = packet;
  context.network_header = packet + kEthernetHeader;
  if (Status status = check_given(given, context.packet.length()); !status) return std::unexpected(status.error());
  context.fields = given;
  if (has_context() && given.wire_len == 0) context.fields.wire_len = context.packet.length();
  context.fields.ifindex = kLoopback;
  derive_fields(reinterpret_cast<const unsigned char*>(packet), size, context.fields);

  if (Status status = here(&context); !status) return std::unexpected(status.error());

  UserSkBuff out{};
  out.mark = context.fields.mark;
  out.priority = context.fields.priority;
  out.ingress_ifindex = context.fields.ingress_ifindex;
  out.ifindex = context.fields.ifindex;
  out.tstamp = context.fields.tstamp;
  std::memcpy(out.cb, context.fields.cb, sizeof out.cb);
  out.wire_len = context.fields.wire_len;
  out.gso_segs = context.fields.gso_segs;
  out.gso_size = context.fields.gso_size;
  out.hwtstamp = context.fields.hwtstamp;
  // The others get their header back, but not what was in it.
  const std::byte header[kEthernetHeader] = {};
  const std::span<const std::byte> data(context.packet.data, context.packet.data_end);
  std::vector<std::byte> whole;
  if (!ethernet) whole.assign(std::begin(header), std::end(header));
  whole.insert(whole.end(), data.begin(), data.end());
  Status status = finish_data(whole, {});
  if (status) status = finish_context(&out, sizeof out);
  if (!status) return std::unexpected(status.error());
  return 0;
}

Answer TestRun::run_xdp() {
  const bool live = (test_.flags & BPF_F_TEST_XDP_LIVE_FRAMES) != 0;
  constexpr uint32_t kDevmap = 33, kCpumap = 35;  // BPF_XDP_DEVMAP, BPF_XDP_CPUMAP
  const uint32_t attach = face_.image().facts.expected_attach_type;
  if (attach == kDevmap || attach == kCpumap) return fail(EINVAL);
  if ((test_.flags & ~static_cast<uint32_t>(BPF_F_TEST_XDP_LIVE_FRAMES)) != 0) return fail(EINVAL);
  if (live) return fail_because(EOPNOTSUPP, "skep has no devices to send live frames through");
  if (test_.batch_size != 0) return fail(EINVAL);

  UserXdpMd given{};
  if (Status status = read_context(&given, sizeof given); !status) return std::unexpected(status.error());
  const uint32_t size = test_.data_size_in;
  uint32_t linear = std::min(size, kBuffer - kXdpHeadroom - kTail);
  uint32_t metadata = 0;
  if (has_context()) {
    // There can be no data before the metadata. A context that is only asked for is one of zeros, as in the kernel:
    // then all of the packet lies in fragments.
    if (given.data_meta != 0 || given.data_end > size || given.data > given.data_end) return fail(EINVAL);
    metadata = given.data;
    if (metadata % 4 != 0 || metadata > kXdpHeadroom - XdpContext::kReservedHeadroom) return fail(EINVAL);
    linear = std::min({size, given.data_end, kBuffer - kXdpHeadroom + metadata - kTail});
  }
  if (size < metadata + kEthernetHeader) return fail(EINVAL);
  if (given.egress_ifindex != 0 || (given.ingress_ifindex == 0 && given.rx_queue_index != 0)) return fail(EINVAL);
  if (given.ingress_ifindex > kLoopback) return fail(ENODEV);
  if (given.rx_queue_index != 0) return fail(EINVAL);

  alignas(8) std::byte buffer[kBuffer] = {};
  std::byte* begin = buffer + kXdpHeadroom - metadata;
  // What does not fit into the first page is fragments, which a program does not see through data and data_end.
  if ((size - linear + kBuffer - 1) / kBuffer > kMaxFragments) return fail(ENOMEM);
  std::vector<std::byte> fragments(size - linear);
  Status status = read_data(begin, 0, linear);
  if (status) status = read_data(fragments.data(), linear, size - linear);
  if (!status) return std::unexpected(status.error());

  XdpContext context;
  context.packet = {.buffer = buffer,
                    .data_meta = begin,
                    .data = begin + metadata,
                    .data_end = begin + linear,
                    .buffer_end = buffer + kBuffer - kTail};
  context.ingress_ifindex = given.ingress_ifindex;
  context.rx_queue_index = given.rx_queue_index;
  if (status = here(&context); !status) return std::unexpected(status.error());

  const PacketBuffer& packet = context.packet;
  UserXdpMd out = given;
  out.data = static_cast<uint32_t>(packet.data - packet.data_meta);
  out.data_end = static_cast<uint32_t>(packet.data_end - packet.data_meta);
  status = finish_data({packet.data_meta, packet.data_end}, fragments);
  if (status) status = finish_context(&out, sizeof out);
  if (!status) return std::unexpected(status.error());
  return 0;
}

}  // namespace skep
