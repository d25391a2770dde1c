// SPDX-License-Identifier: Apache-2.0
// iterate OBJECT PROGRAM MAP_PIN BUFFER [PIN]: attaches an iterator of the object to the pinned map, prints what
// reading it gives, BUFFER bytes at a time, and pins the link if PIN is given.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

static int complain(const char* what) {
  printf("%s: %s\n", what, strerror(errno));
  return 1;
}

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const size_t size = strtoul(argv[4], NULL, 10);
  char* buffer = malloc(size);
  struct bpf_object* object = bpf_object__open_file(argv[1], NULL);
  if (!object || bpf_object__load(object) != 0) return complain("load");
  struct bpf_program* program = bpf_object__find_program_by_name(object, argv[2]);
  if (!program) return complain("program");

  union bpf_iter_link_info target = {};
  const int map = bpf_obj_get(argv[3]);
  if (map < 0) return complain("map");
  target.map.map_fd = map;
  LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &target, .link_info_len = sizeof target);
  struct bpf_link* link = bpf_program__attach_iter(program, &options);
  if (!link) return complain("attach");
  close(map);

  // Where the program's errors come differs: skep runs it when the iterator is made.
  const int iterator = bpf_iter_create(bpf_link__fd(link));
  if (iterator < 0) return complain("iterate");
  ssize_t got;
  while ((got = read(iterator, buffer, size)) > 0) fwrite(buffer, 1, (size_t)got, stdout);
  if (got < 0) return complain("iterate");
  close(iterator);
  if (argc > 5 && bpf_link__pin(link, argv[5]) != 0) return complain("pin");
  bpf_link__destroy(link);
  bpf_object__close(object);
  free(buffer);
  return 0;
}
