// SPDX-License-Identifier: Apache-2.0
#include "capture.h"

#include <byteswap.h>
#include <errno.h>
#include <string.h>

#define MAGIC_MICROSECONDS 0xa1b2c3d4
#define MAGIC_NANOSECONDS 0xa1b23c4d
#define LINKTYPE_ETHERNET 1

struct file_header {
  uint32_t magic;
  uint16_t major, minor;
  uint32_t zone, accuracy, snap_length, link_type;
};

struct record_header {
  uint32_t seconds, fraction, length, wire_length;
};

static uint32_t number(const struct capture* capture, uint32_t value) {
  return capture->swapped ? bswap_32(value) : value;
}

static int refuse(struct capture* capture, const char* path, const char* why) {
  fprintf(stderr, "%s: %s\n", path, why);
  capture_close(capture);
  return -1;
}

int capture_open(struct capture* capture, const char* path) {
  struct file_header header;

  memset(capture, 0, sizeof(*capture));
  capture->file = fopen(path, "rb");
  if (!capture->file) return refuse(capture, path, strerror(errno));
  if (fread(&header, sizeof(header), 1, capture->file) != 1) return refuse(capture, path, "too short for a capture");

  capture->swapped = header.magic == bswap_32(MAGIC_MICROSECONDS) || header.magic == bswap_32(MAGIC_NANOSECONDS);
  switch (number(capture, header.magic)) {
    case MAGIC_MICROSECONDS:
      capture->nanoseconds_per_unit = 1000;
      break;
    case MAGIC_NANOSECONDS:
      capture->nanoseconds_per_unit = 1;
      break;
    default:
      return refuse(capture, path, "not a pcap file");
  }
  if (number(capture, header.link_type) != LINKTYPE_ETHERNET)
    return refuse(capture, path, "not a capture of Ethernet frames");
  return 0;
}

int capture_next(struct capture* capture, struct captured_packet* packet) {
  struct record_header header;
  size_t got = fread(&header, 1, sizeof(header), capture->file);

  if (got == 0 && feof(capture->file)) return 0;
  packet->length = number(capture, header.length);
  if (got != sizeof(header) || packet->length > CAPTURE_MAX_PACKET ||
      fread(packet->data, 1, packet->length, capture->file) != packet->length) {
    fprintf(stderr, "the capture ends inside a packet, or is damaged\n");
    return -1;
  }
  packet->wire_length = number(capture, header.wire_length);
  packet->time = number(capture, header.seconds) * 1000000000ull +
                 (uint64_t)number(capture, header.fraction) * capture->nanoseconds_per_unit;
  return 1;
}

void capture_close(struct capture* capture) {
  if (capture->file) fclose(capture->file);
  capture->file = NULL;
}
