// SPDX-License-Identifier: Apache-2.0
// hold_map NAME: makes a hash map with one element (1 -> 2) that only this process's descriptor keeps alive, prints its
// id, and waits for the end of its input.

#include <bpf/bpf.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char** argv) {
  struct bpf_map_info info = {0};
  __u32 size = sizeof(info);
  __u32 key = 1, value = 2;
  char rest;

  int map = argc == 2 ? bpf_map_create(BPF_MAP_TYPE_HASH, argv[1], sizeof(key), sizeof(value), 8, NULL) : -1;
  if (map < 0 || bpf_map_update_elem(map, &key, &value, BPF_ANY) != 0 ||
      bpf_obj_get_info_by_fd(map, &info, &size) != 0) {
    perror("hold_map");
    return 1;
  }
  printf("%u\n", info.id);
  fflush(stdout);
  while (read(STDIN_FILENO, &rest, 1) > 0) {
  }
  return 0;
}
