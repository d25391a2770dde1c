/* SPDX-License-Identifier: Apache-2.0 */
/* What the XDP program keeps and the application reads. Numbers in host byte order, addresses and ports as on the wire.
 */
#ifndef FLOWS_H
#define FLOWS_H

#include <linux/types.h>

#define FLOWS_MAX 65536
#define SIZE_CLASSES 12 /* class c: packets of 2^c .. 2^(c+1)-1 bytes; the last one takes all longer ones */

/* One direction of a conversation. An IPv4 address fills the first 4 bytes of its 16; the rest is 0. */
struct flow_key {
  __u8 source[16];
  __u8 destination[16];
  __be16 source_port; /* 0 where the protocol has none, and for all fragments but the first */
  __be16 destination_port;
  __u8 protocol; /* IPPROTO_* */
  __u8 version;  /* 4 or 6 */
  __u8 padding[2];
};

struct flow {
  __u64 packets;
  __u64 bytes;      /* on the wire, Ethernet header included */
  __u64 first_seen; /* nanoseconds, by the capture's clock */
  __u64 last_seen;
  __u32 tcp_flags; /* all that were seen */
  __u32 largest;   /* bytes of the largest packet */
};

struct counter {
  __u64 packets;
  __u64 bytes;
};

/* What a capture knows of a packet and its bytes do not tell. */
struct packet_info {
  __u64 time;        /* nanoseconds */
  __u32 wire_length; /* bytes; the capture may hold fewer */
  __u32 padding;
};

#endif
