// SPDX-License-Identifier: Apache-2.0
// An ordinary skeleton application: sets constants before loading, runs the program, reads and writes its variables
// through the memory that libbpf maps.

#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "globals.skel.h"

static int run(int program, unsigned length) {
  char packet[256] = {0};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = length);
  int error = bpf_prog_test_run_opts(program, &options);
  return error != 0 ? error : (int)options.retval;
}

int main(void) {
  struct globals* app = globals__open();
  if (app == NULL) return 1;
  app->rodata->factor = 3;
  app->data->offset = 100;
  if (globals__load(app) != 0) return 2;

  int program = bpf_program__fd(app->progs.compute);
  printf("run: %d\n", run(program, 20));
  printf("run: %d\n", run(program, 30));
  app->data->offset = 1000;
  printf("run: %d\n", run(program, 20));
  printf("factor %d offset %d runs %d results %ld %ld %ld %ld\n", app->rodata->factor, app->data->offset,
         app->bss->runs, app->bss->results[0], app->bss->results[1], app->bss->results[2], app->bss->results[3]);

  int rodata = bpf_map__fd(app->maps.rodata);
  int key = 0, value = 9;
  printf("constant written: %d\n", bpf_map_update_elem(rodata, &key, &value, BPF_ANY));
  void* writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, rodata, 0);
  printf("constant mapped for writing: %s\n", writable == MAP_FAILED ? "no" : "yes");
  globals__destroy(app);
  return 0;
}
