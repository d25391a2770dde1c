/* SPDX-License-Identifier: Apache-2.0 */
/* Reads capture files as tcpdump -w writes them (pcap, either byte order, micro- or nanoseconds). */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <stdint.h>
#include <stdio.h>

#define CAPTURE_MAX_PACKET 65535

struct capture {
  FILE* file;
  int swapped;                   /* written on a machine of the other byte order */
  uint32_t nanoseconds_per_unit; /* of the fraction part of its timestamps */
};

struct captured_packet {
  uint64_t time;        /* nanoseconds since 1970 */
  uint32_t length;      /* bytes in `data` */
  uint32_t wire_length; /* bytes that the packet had */
  unsigned char data[CAPTURE_MAX_PACKET];
};

/* Returns 0, or -1 after a message on stderr: no such file, not a pcap file, not Ethernet. */
int capture_open(struct capture* capture, const char* path);
/* Returns 1 and a packet, 0 at the end, or -1 after a message: the file is damaged. */
int capture_next(struct capture* capture, struct captured_packet* packet);
void capture_close(struct capture* capture);

#endif
