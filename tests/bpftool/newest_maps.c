// SPDX-License-Identifier: Apache-2.0
// newest_maps DIRECTORY: pins a map of each kind that bpftool 7.1 has no name for, with something in it.

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct newest {
  const char* name;
  __u32 type, key_size, value_size, flags;
};

int main(int argc, char** argv) {
  const struct newest all[] = {{"insn_array", 34, 4, 16, 0}, {"rhash", 35, 4, 16, BPF_F_NO_PREALLOC}};
  for (unsigned i = 0; argc == 2 && i < sizeof(all) / sizeof(all[0]); ++i) {
    LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = all[i].flags);
    __u32 key = 1, value[4] = {7};
    char path[256];
    int map = bpf_map_create(all[i].type, all[i].name, all[i].key_size, all[i].value_size, 3, &opts);
    if (map < 0) {
      printf("%s: %s\n", all[i].name, strerror(-map));
      continue;
    }
    snprintf(path, sizeof(path), "%s/%s", argv[1], all[i].name);
    if (bpf_map_update_elem(map, &key, value, BPF_ANY) != 0 || bpf_obj_pin(map, path) != 0) perror(all[i].name);
  }
  return argc == 2 ? 0 : 1;
}
