// SPDX-License-Identifier: Apache-2.0
/*
 * flows: who talked to whom in a capture, accounted by an XDP program.
 *
 * Every packet of the file goes through the program with BPF_PROG_TEST_RUN; the maps that the program fills are then
 * read and printed. What is known of a packet beside its bytes (time, length on the wire) is handed over in the
 * program's global `packet`, which the skeleton maps into this process.
 */
#include "flows.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "capture.h"
#include "flows.skel.h"
#include "report.h"

#define SHORTEST_PACKET 14 /* BPF_PROG_TEST_RUN takes no less than an Ethernet header */

struct options {
  const char* capture;
  const char* pin_directory;
  unsigned int top;
  unsigned long pause_at;
  bool ipv4_only, ipv6_only;
};

static const char usage[] =
    "usage: flows [options] CAPTURE.pcap\n"
    "  -n, --top N          how many of the largest flows to print (default 10)\n"
    "  -4, --ipv4           account IPv4 only\n"
    "  -6, --ipv6           account IPv6 only\n"
    "  -p, --pin DIR        pin the maps flows, protocols and sizes in DIR, a directory of a bpf file system\n"
    "  -w, --pause-at N     after N packets say so on stderr and wait for a line on stdin\n"
    "The report goes to stdout and depends on the capture alone; how long it took goes to stderr.\n";

static int parse_options(int argc, char** argv, struct options* options) {
  static const struct option names[] = {{"top", required_argument, NULL, 'n'},
                                        {"ipv4", no_argument, NULL, '4'},
                                        {"ipv6", no_argument, NULL, '6'},
                                        {"pin", required_argument, NULL, 'p'},
                                        {"pause-at", required_argument, NULL, 'w'},
                                        {"help", no_argument, NULL, 'h'},
                                        {}};
  int option;

  *options = (struct options){.top = 10};
  while ((option = getopt_long(argc, argv, "n:46p:w:h", names, NULL)) != -1) {
    switch (option) {
      case 'n':
        options->top = strtoul(optarg, NULL, 0);
        break;
      case '4':
        options->ipv4_only = true;
        break;
      case '6':
        options->ipv6_only = true;
        break;
      case 'p':
        options->pin_directory = optarg;
        break;
      case 'w':
        options->pause_at = strtoul(optarg, NULL, 0);
        break;
      case 'h':
        fputs(usage, stdout);
        exit(0);
      default:
        return -EINVAL;
    }
  }
  options->capture = argv[optind];
  return optind + 1 == argc && !(options->ipv4_only && options->ipv6_only) ? 0 : -EINVAL;
}

static struct flows* load(const struct options* options) {
  struct flows* skeleton = flows__open();

  if (!skeleton) {
    fprintf(stderr, "cannot open the BPF object: %s\n", strerror(errno));
    return NULL;
  }
  skeleton->rodata->account_ipv4 = !options->ipv6_only;
  skeleton->rodata->account_ipv6 = !options->ipv4_only;
  if (flows__load(skeleton)) {
    fprintf(stderr, "cannot load the BPF object: %s\n", strerror(errno));
    flows__destroy(skeleton);
    return NULL;
  }
  return skeleton;
}

static int pin(struct flows* skeleton, const char* directory) {
  struct bpf_map* maps[] = {skeleton->maps.flows, skeleton->maps.protocols, skeleton->maps.sizes};

  for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
    char path[4096];
    int error;

    snprintf(path, sizeof(path), "%s/%s", directory, bpf_map__name(maps[i]));
    error = bpf_map__pin(maps[i], path);
    if (error) {
      fprintf(stderr, "cannot pin %s: %s\n", path, strerror(-error));
      return error;
    }
  }
  return 0;
}

static double seconds(void) {
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Returns how many seconds it waited. */
static double wait_for_line(unsigned long packets) {
  double started = seconds();
  int character;

  fprintf(stderr, "paused after %lu packets\n", packets);
  do {
    character = getchar();
  } while (character != '\n' && character != EOF);
  return seconds() - started;
}

/* Runs the program on every packet of the capture. Returns 0, or -errno after a message. */
static int account(struct flows* skeleton, struct capture* capture, unsigned long pause_at) {
  static struct captured_packet packet;
  int program = bpf_program__fd(skeleton->progs.account);
  double started = seconds();
  unsigned long packets = 0;
  int more;

  while ((more = capture_next(capture, &packet)) > 0) {
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet.data, .data_size_in = packet.length, .repeat = 1);
    int error;

    if (packet.length < SHORTEST_PACKET) {
      skeleton->bss->truncated++;
      continue;
    }
    skeleton->bss->packet.time = packet.time;
    skeleton->bss->packet.wire_length = packet.wire_length;
    error = bpf_prog_test_run_opts(program, &run);
    if (error) {
      fprintf(stderr, "packet %lu: %s\n", packets + 1, strerror(-error));
      return error;
    }
    if (++packets == pause_at) started += wait_for_line(packets);
  }
  if (more < 0) return -EINVAL;
  fprintf(stderr, "%lu packets in %.1f ms\n", packets, (seconds() - started) * 1e3);
  return 0;
}

int main(int argc, char** argv) {
  struct options options;
  struct flows* skeleton;
  struct capture capture;
  int error;

  if (parse_options(argc, argv, &options)) {
    fputs(usage, stderr);
    return 2;
  }
  if (capture_open(&capture, options.capture)) return 1;
  skeleton = load(&options);
  error = skeleton ? 0 : -1;
  if (!error && options.pin_directory) error = pin(skeleton, options.pin_directory);
  if (!error) error = account(skeleton, &capture, options.pause_at);
  if (!error) error = report(skeleton, options.top);
  flows__destroy(skeleton);
  capture_close(&capture);
  return error ? 1 : 0;
}
