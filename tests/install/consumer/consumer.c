/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <skep/bpf.h>
#include <skep/map.h>
#include <stdio.h>
#include <string.h>

/* Opens what the C++ consumer pinned, by both of the library's faces. */
int main(void) {
  struct skep_instance* instance;
  struct skep_map* map;
  uint64_t key = 12, value = 0;
  union bpf_attr attr;
  int result = skep_instance_open(NULL, &instance);
  if (result == 0) result = skep_map_open_pin(instance, "/sys/fs/bpf/squares", SKEP_READ_ONLY, &map);
  if (result != 0) {
    fprintf(stderr, "%s: %s\n", strerror(-result), skep_last_error());
    return 1;
  }
  if (skep_map_get(map, &key, &value, 0) != 0 || value != 144) return 1;
  if (skep_map_update(map, &key, &value, BPF_ANY) != -EPERM) return 1;

  memset(&attr, 0, sizeof(attr));
  attr.pathname = (uint64_t)(uintptr_t) "/sys/fs/bpf/squares";
  result = skep_bpf(BPF_OBJ_GET, &attr, sizeof(attr));
  if (result < 0) return 1;
  memset(&attr, 0, sizeof(attr));
  attr.map_fd = (uint32_t)result;
  attr.key = (uint64_t)(uintptr_t)&key;
  attr.value = (uint64_t)(uintptr_t)&value;
  key = 7;
  if (skep_bpf(BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr)) != 0 || value != 49) return 1;

  skep_map_close(map);
  skep_instance_close(instance);
  return 0;
}
