// SPDX-License-Identifier: Apache-2.0
/* Accounts each packet by its flow, its protocol and its size. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "flows.h"

#define MAX_VLAN_TAGS 2
#define MAX_IPV6_EXTENSIONS 6
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV6_FRAGMENT_OFFSET 0xfff8

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, FLOWS_MAX);
  __type(key, struct flow_key);
  __type(value, struct flow);
} flows SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 256);
  __type(key, __u32);
  __type(value, struct counter);
} protocols SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, SIZE_CLASSES);
  __type(key, __u32);
  __type(value, __u64);
} sizes SEC(".maps");

/* Set before the program is loaded. */
const volatile bool account_ipv4 = true;
const volatile bool account_ipv6 = true;

/* Set before each packet. */
struct packet_info packet;

/* What was not accounted, and why. */
__u64 not_ip;
__u64 truncated;
__u64 left_out;
__u64 table_full;

struct vlan_tag {
  __be16 control;
  __be16 type;
};

struct ipv6_extension {
  __u8 next;
  __u8 length; /* in units of 8 bytes, not counting the first 8 */
  __be16 fragment;
  __be32 rest;
};

/* Returns where `size` bytes at `at` end, or NULL where the packet ends before. */
#define after(at, size, end) ((at) + (size) > (end) ? NULL : (at) + (size))

static __always_inline void count_size(__u32 bytes) {
  __u32 class = 0;

  for (__u32 rest = bytes >> 1; rest && class < SIZE_CLASSES - 1; rest >>= 1) class ++;
  __u64* count = bpf_map_lookup_elem(&sizes, &class);
  if (count) __sync_fetch_and_add(count, 1);
}

static __always_inline void count_protocol(__u32 protocol, __u32 bytes) {
  struct counter* counter = bpf_map_lookup_elem(&protocols, &protocol);

  if (counter) { /* this CPU's own: nobody else writes it */
    counter->packets++;
    counter->bytes += bytes;
  }
}

static __always_inline void count_flow(const struct flow_key* key, __u32 tcp_flags) {
  struct flow* flow = bpf_map_lookup_elem(&flows, key);

  if (!flow) {
    struct flow fresh = {.first_seen = packet.time, .last_seen = packet.time};

    bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST); /* another CPU may have been first: fine */
    flow = bpf_map_lookup_elem(&flows, key);
    if (!flow) {
      __sync_fetch_and_add(&table_full, 1);
      return;
    }
  }
  __sync_fetch_and_add(&flow->packets, 1);
  __sync_fetch_and_add(&flow->bytes, packet.wire_length);
  __sync_fetch_and_or(&flow->tcp_flags, tcp_flags);
  if (flow->last_seen < packet.time) flow->last_seen = packet.time;
  if (flow->largest < packet.wire_length) flow->largest = packet.wire_length;
}

/* Fills in the ports from the transport header at `at`; returns the TCP flags, or -1 for a truncated header. */
static __always_inline int read_transport(struct flow_key* key, void* at, void* end) {
  switch (key->protocol) {
    case IPPROTO_TCP: {
      struct tcphdr* tcp = at;
      if (!after(at, sizeof(*tcp), end)) return -1;
      key->source_port = tcp->source;
      key->destination_port = tcp->dest;
      return ((__u8*)tcp)[13];
    }
    case IPPROTO_UDP: {
      struct udphdr* udp = at;
      if (!after(at, sizeof(*udp), end)) return -1;
      key->source_port = udp->source;
      key->destination_port = udp->dest;
      return 0;
    }
    default:
      return 0;
  }
}

static __always_inline int read_ipv4(struct flow_key* key, void* at, void* end) {
  struct iphdr* ip = at;

  if (!after(at, sizeof(*ip), end) || ip->ihl < 5) return -1;
  key->version = 4;
  key->protocol = ip->protocol;
  __builtin_memcpy(key->source, &ip->saddr, 4);
  __builtin_memcpy(key->destination, &ip->daddr, 4);
  if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)) return 0;
  return read_transport(key, at + ip->ihl * 4, end);
}

static __always_inline int read_ipv6(struct flow_key* key, void* at, void* end) {
  struct ipv6hdr* ip = at;

  if (!after(at, sizeof(*ip), end)) return -1;
  key->version = 6;
  key->protocol = ip->nexthdr;
  __builtin_memcpy(key->source, &ip->saddr, 16);
  __builtin_memcpy(key->destination, &ip->daddr, 16);
  at += sizeof(*ip);

  for (int i = 0; i < MAX_IPV6_EXTENSIONS; i++) {
    struct ipv6_extension* extension = at;
    __u32 length = 8;

    switch (key->protocol) {
      case IPPROTO_HOPOPTS:
      case IPPROTO_ROUTING:
      case IPPROTO_DSTOPTS:
      case IPPROTO_FRAGMENT:
        break;
      default:
        return read_transport(key, at, end);
    }
    if (!after(at, sizeof(*extension), end)) return -1;
    if (key->protocol != IPPROTO_FRAGMENT)
      length += extension->length * 8;
    else if (extension->fragment & bpf_htons(IPV6_FRAGMENT_OFFSET)) {
      key->protocol = extension->next;
      return 0;
    }
    key->protocol = extension->next;
    at += length;
  }
  return -1;
}

SEC("xdp")
int account(struct xdp_md* ctx) {
  void* at = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct ethhdr* ethernet = at;
  struct flow_key key = {};
  int tcp_flags = -1;
  __be16 type;

  count_size(packet.wire_length);
  if (!after(at, sizeof(*ethernet), end)) {
    __sync_fetch_and_add(&truncated, 1);
    return XDP_PASS;
  }
  type = ethernet->h_proto;
  at += sizeof(*ethernet);
  for (int i = 0; i < MAX_VLAN_TAGS && (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD)); i++) {
    struct vlan_tag* tag = at;

    if (!after(at, sizeof(*tag), end)) break;
    type = tag->type;
    at += sizeof(*tag);
  }

  if (type == bpf_htons(ETH_P_IP) && account_ipv4)
    tcp_flags = read_ipv4(&key, at, end);
  else if (type == bpf_htons(ETH_P_IPV6) && account_ipv6)
    tcp_flags = read_ipv6(&key, at, end);
  else {
    bool ip = type == bpf_htons(ETH_P_IP) || type == bpf_htons(ETH_P_IPV6);
    __sync_fetch_and_add(ip ? &left_out : &not_ip, 1);
    return XDP_PASS;
  }
  if (tcp_flags < 0) {
    __sync_fetch_and_add(&truncated, 1);
    return XDP_PASS;
  }
  count_protocol(key.protocol, packet.wire_length);
  count_flow(&key, tcp_flags);
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
