// SPDX-License-Identifier: Apache-2.0
#include "report.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flows.h"

struct row {
  struct flow_key key;
  struct flow flow;
};

static int by_bytes(const void* left, const void* right) {
  const struct row *a = left, *b = right;

  if (a->flow.bytes != b->flow.bytes) return a->flow.bytes < b->flow.bytes ? 1 : -1;
  if (a->flow.packets != b->flow.packets) return a->flow.packets < b->flow.packets ? 1 : -1;
  return memcmp(&a->key, &b->key, sizeof(a->key));
}

/* Collects all flows. The caller frees *rows; returns how many, or -errno. */
static int collect(const struct bpf_map* map, struct row** rows) {
  struct flow_key key, *previous = NULL;
  int count = 0;

  *rows = calloc(FLOWS_MAX, sizeof(**rows));
  if (!*rows) return -ENOMEM;
  while (count < FLOWS_MAX && bpf_map__get_next_key(map, previous, &key, sizeof(key)) == 0) {
    struct row* row = &(*rows)[count];
    int error = bpf_map__lookup_elem(map, &key, sizeof(key), &row->flow, sizeof(row->flow), 0);

    if (error) return error;
    row->key = key;
    previous = &key;
    count++;
  }
  return count;
}

static void print_protocol(unsigned int number) {
  const char* names[256] = {[1] = "icmp", [2] = "igmp", [6] = "tcp", [17] = "udp", [58] = "icmp6", [132] = "sctp"};

  if (names[number])
    printf("%-9s", names[number]);
  else
    printf("%-9u", number);
}

static int report_protocols(const struct bpf_map* map) {
  int cpus = libbpf_num_possible_cpus();
  struct counter* values;
  int error = 0;

  if (cpus < 0) return cpus;
  values = calloc(cpus, sizeof(*values));
  if (!values) return -ENOMEM;

  printf("\nprotocol     packets         bytes\n");
  for (__u32 number = 0; number < 256 && !error; number++) {
    struct counter sum = {};

    error = bpf_map__lookup_elem(map, &number, sizeof(number), values, cpus * sizeof(*values), 0);
    for (int cpu = 0; cpu < cpus; cpu++) {
      sum.packets += values[cpu].packets;
      sum.bytes += values[cpu].bytes;
    }
    if (error || !sum.packets) continue;
    print_protocol(number);
    printf("%11llu %13llu\n", sum.packets, sum.bytes);
  }
  free(values);
  return error;
}

static int report_sizes(const struct bpf_map* map) {
  printf("\nbytes on the wire     packets\n");
  for (__u32 class = 0; class < SIZE_CLASSES; class ++) {
    __u64 count;
    int error = bpf_map__lookup_elem(map, &class, sizeof(class), &count, sizeof(count), 0);

    if (error) return error;
    if (!count) continue;
    if (class == SIZE_CLASSES - 1)
      printf("%6u and more   %13llu\n", 1u << class, count);
    else
      printf("%6u to %-6u   %13llu\n", 1u << class, (2u << class) - 1, count);
  }
  return 0;
}

static void print_endpoint(const struct flow_key* key, const __u8* address, __be16 port, char* text, size_t size) {
  char number[INET6_ADDRSTRLEN];

  inet_ntop(key->version == 4 ? AF_INET : AF_INET6, address, number, sizeof(number));
  if (port)
    snprintf(text, size, key->version == 4 ? "%s:%u" : "[%s]:%u", number, ntohs(port));
  else
    snprintf(text, size, "%s", number);
}

static void print_flow(const struct row* row) {
  char source[INET6_ADDRSTRLEN + 10], destination[INET6_ADDRSTRLEN + 10];
  __u64 milliseconds = (row->flow.last_seen - row->flow.first_seen) / 1000000;

  print_endpoint(&row->key, row->key.source, row->key.source_port, source, sizeof(source));
  print_endpoint(&row->key, row->key.destination, row->key.destination_port, destination, sizeof(destination));
  print_protocol(row->key.protocol);
  printf("%-24s > %-24s %7llu %11llu %6u %5llu.%03llu\n", source, destination, row->flow.packets, row->flow.bytes,
         row->flow.largest, milliseconds / 1000, milliseconds % 1000);
}

int report(const struct flows* skeleton, unsigned int top) {
  struct row* rows = NULL;
  __u64 packets = 0, bytes = 0;
  int count = collect(skeleton->maps.flows, &rows), error = count < 0 ? count : 0;

  if (!error) {
    qsort(rows, count, sizeof(*rows), by_bytes);
    for (int i = 0; i < count; i++) {
      packets += rows[i].flow.packets;
      bytes += rows[i].flow.bytes;
    }
    printf("%llu packets, %llu bytes in %d flows", packets, bytes, count);
    printf("; not IP %llu, truncated %llu, left out %llu, table full %llu\n", skeleton->bss->not_ip,
           skeleton->bss->truncated, skeleton->bss->left_out, skeleton->bss->table_full);
    error = report_protocols(skeleton->maps.protocols);
  }
  if (!error) error = report_sizes(skeleton->maps.sizes);
  if (!error) {
    printf(
        "\nprotocol source                     destination              packets       bytes  "
        "largest  seconds\n");
    for (int i = 0; i < count && i < (int)top; i++) print_flow(&rows[i]);
  } else {
    fprintf(stderr, "cannot read the maps: %s\n", strerror(-error));
  }
  free(rows);
  return error;
}
