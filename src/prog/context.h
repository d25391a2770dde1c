// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

namespace skep {

struct MapBinding;  // prog/decode.h

/// struct __sk_buff as programs and BPF_PROG_TEST_RUN's ctx_in / ctx_out see it (Linux 6.18, 192 bytes).
struct UserSkBuff {
  uint32_t len;
  uint32_t pkt_type;
  uint32_t mark;
  uint32_t queue_mapping;
  uint32_t protocol;
  uint32_t vlan_present;
  uint32_t vlan_tci;
  uint32_t vlan_proto;
  uint32_t priority;
  uint32_t ingress_ifindex;
  uint32_t ifindex;
  uint32_t tc_index;
  uint32_t cb[5];
  uint32_t hash;
  uint32_t tc_classid;
  uint32_t data;
  uint32_t data_end;
  uint32_t napi_id;
  uint32_t family;
  uint32_t remote_ip4;
  uint32_t local_ip4;
  uint32_t remote_ip6[4];
  uint32_t local_ip6[4];
  uint32_t remote_port;
  uint32_t local_port;
  uint32_t data_meta;
  uint64_t flow_keys;
  uint64_t tstamp;
  uint32_t wire_len;
  uint32_t gso_segs;
  uint64_t sk;
  uint32_t gso_size;
  uint8_t tstamp_type;
  uint8_t padding[3];
  uint64_t hwtstamp;
};
static_assert(sizeof(UserSkBuff) == 192);

/// struct xdp_md likewise.
struct UserXdpMd {
  uint32_t data;
  uint32_t data_end;
  uint32_t data_meta;
  uint32_t ingress_ifindex;
  uint32_t rx_queue_index;
  uint32_t egress_ifindex;
};
static_assert(sizeof(UserXdpMd) == 24);

/// A packet in a buffer of the caller with room to grow at both ends:
/// buffer <= data_meta <= data <= data_end <= buffer_end. Helpers move the inner three; the caller owns the memory.
/// No byte outside [data_meta, data_end) is ever shown to a program.
struct PacketBuffer {
  std::byte* buffer = nullptr;
  std::byte* data_meta = nullptr;  // XDP and SCHED_CLS metadata; equal to data where there is none
  std::byte* data = nullptr;
  std::byte* data_end = nullptr;
  std::byte* buffer_end = nullptr;
  [[nodiscard]] uint32_t length() const { return static_cast<uint32_t>(data_end - data); }
};

/// What an XDP program runs on.
struct XdpContext {
  /// The kernel keeps this many bytes at the buffer's start for itself: the floor for bpf_xdp_adjust_head/meta().
  static constexpr uint32_t kReservedHeadroom = 40;
  PacketBuffer packet;
  uint32_t ingress_ifindex = 0;
  uint32_t rx_queue_index = 0;
  uint32_t egress_ifindex = 0;
};

/// What SOCKET_FILTER, SCHED_CLS, SCHED_ACT and CGROUP_SKB programs run on.
///
/// `fields` holds the values of the plain fields; `len`, `data`, `data_end`, `data_meta` in it are ignored: the runtime
/// derives them from `packet`. After the run it holds what the program stored (mark, priority, cb, tc_classid, ...).
struct SkbContext {
  PacketBuffer packet;
  UserSkBuff fields{};
  std::byte* mac_header = nullptr;      // for bpf_skb_load_bytes_relative() and SKF_LL_OFF; null: not known
  std::byte* network_header = nullptr;  // likewise SKF_NET_OFF
};

/// Memory that a context points to.
struct ContextMemory {
  std::byte* data = nullptr;
  uint64_t size = 0;  // bytes
  bool writable = false;
  const MapBinding* value_of = nullptr;  // a value of that map, whose special fields are not the program's
};

/// What every other type runs on: bytes that the program sees as they are. RAW_TRACEPOINT: 64-bit arguments;
/// TRACEPOINT: the event's record; KPROBE: struct pt_regs; SYSCALL: the caller's ctx_in; TRACING (iterators): four
/// pointers.
struct BytesContext {
  std::byte* data = nullptr;
  uint32_t size = 0;
  bool writable = false;
  std::span<const ContextMemory> memory = {};  // what the program may use besides, for the whole run
};

/// The context of a run; what it points to is owned by the caller and outlives the run.
using RunContext = std::variant<BytesContext*, SkbContext*, XdpContext*>;

}  // namespace skep
