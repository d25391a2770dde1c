// SPDX-License-Identifier: Apache-2.0
// storage_maps DIRECTORY: pins a map of each kind of storage. The key of a task's is this process, whose value is 7.

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "storage_types.h"

int main(int argc, char** argv) {
  const struct {
    enum bpf_map_type type;
    const char* name;
  } all[] = {{BPF_MAP_TYPE_TASK_STORAGE, "task"},
             {(enum bpf_map_type)32, "cgroup"},
             {BPF_MAP_TYPE_SK_STORAGE, "socket"},
             {BPF_MAP_TYPE_INODE_STORAGE, "inode"}};
  int btf = load_storage_types(), self = (int)syscall(SYS_pidfd_open, getpid(), 0);
  long value = 7;
  for (unsigned i = 0; argc == 2 && i < sizeof(all) / sizeof(all[0]); ++i) {
    char path[256];
    int map = create_storage(all[i].type, all[i].name, 0, btf);
    if (map < 0) {
      printf("%s: %s\n", all[i].name, strerror(-map));
      continue;
    }
    snprintf(path, sizeof(path), "%s/%s", argv[1], all[i].name);
    if (bpf_obj_pin(map, path) != 0) perror(all[i].name);
    if (all[i].type != BPF_MAP_TYPE_TASK_STORAGE) continue;
    if (bpf_map_update_elem(map, &self, &value, BPF_ANY) != 0) perror("update");
    if (bpf_map_lookup_elem(map, &self, &value) != 0) perror("lookup");
    printf("task: %ld\n", value);
  }
  return argc == 2 ? 0 : 1;
}
