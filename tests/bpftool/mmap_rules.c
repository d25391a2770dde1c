// SPDX-License-Identifier: Apache-2.0
// Which maps can be mapped into memory how: one line per map, one word (ok, or the errno) per way of mapping it.

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

static const struct {
  const char* name;
  size_t length;
  int protection;
  int flags;
  off_t offset;
} kWays[] = {
    {"read", 4096, PROT_READ, MAP_SHARED, 0},     {"write", 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 0},
    {"private", 4096, PROT_READ, MAP_PRIVATE, 0}, {"exec", 4096, PROT_READ | PROT_EXEC, MAP_SHARED, 0},
    {"long", 8192, PROT_READ, MAP_SHARED, 0},     {"behind", 4096, PROT_READ, MAP_SHARED, 4096},
};

static void word(const char* name, int failed) {
  printf("  %s ", name);
  if (failed)
    printf("%d", errno);
  else
    printf("ok");
}

static void try_all(const char* name, int map) {
  if (map < 0) {
    printf("%s: none, %d\n", name, errno);
    return;
  }
  printf("%s:", name);
  for (unsigned i = 0; i < sizeof(kWays) / sizeof(kWays[0]); ++i) {
    char* memory = mmap(NULL, kWays[i].length, kWays[i].protection, kWays[i].flags, map, kWays[i].offset);
    word(kWays[i].name, memory == MAP_FAILED);
    if (memory == MAP_FAILED) continue;
    if (i == 0) word("upgrade", mprotect(memory, 4096, PROT_READ | PROT_WRITE) != 0);
    munmap(memory, kWays[i].length);
  }
  printf("\n");
}

static int make(enum bpf_map_type type, __u32 flags) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = flags);
  return bpf_map_create(type, "mmap_rules", 4, 8, 4, &options);
}

static const struct {
  const char* name;
  enum bpf_map_type type;
  __u32 key_size, value_size, entries, flags;
} kOthers[] = {
    {"percpu_hash", BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 4, 0},
    {"lru_hash", BPF_MAP_TYPE_LRU_HASH, 4, 8, 64, 0},
    {"lru_percpu_hash", BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 8, 64, 0},
    {"lpm_trie", BPF_MAP_TYPE_LPM_TRIE, 8, 8, 4, BPF_F_NO_PREALLOC},
    {"queue", BPF_MAP_TYPE_QUEUE, 0, 8, 4, 0},
    {"stack", BPF_MAP_TYPE_STACK, 0, 8, 4, 0},
    {"bloom_filter", BPF_MAP_TYPE_BLOOM_FILTER, 0, 8, 4, 0},
    {"prog_array", BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4, 0},
    {"perf_event_array", BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 4, 0},
    {"stack_trace", BPF_MAP_TYPE_STACK_TRACE, 4, 80, 4, 0},
    {"cgroup_array", BPF_MAP_TYPE_CGROUP_ARRAY, 4, 4, 4, 0},
    {"devmap", BPF_MAP_TYPE_DEVMAP, 4, 4, 4, 0},
    {"devmap_hash", BPF_MAP_TYPE_DEVMAP_HASH, 4, 4, 4, 0},
    {"cpumap", BPF_MAP_TYPE_CPUMAP, 4, 4, 2, 0},
    {"xskmap", BPF_MAP_TYPE_XSKMAP, 4, 4, 4, 0},
    {"sockmap", BPF_MAP_TYPE_SOCKMAP, 4, 8, 4, 0},
    {"sockhash", BPF_MAP_TYPE_SOCKHASH, 4, 8, 4, 0},
    {"reuseport_sockarray", BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 4, 0},
    {"cgroup_storage", BPF_MAP_TYPE_CGROUP_STORAGE, 8, 8, 0, 0},
    {"percpu_cgroup_storage", BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 8, 8, 0, 0},
    {"ringbuf", BPF_MAP_TYPE_RINGBUF, 0, 0, 4096, 0},
    {"user_ringbuf", BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 4096, 0},
};

static void try_others(void) {
  for (unsigned i = 0; i < sizeof(kOthers) / sizeof(kOthers[0]); ++i) {
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = kOthers[i].flags);
    const int map = bpf_map_create(kOthers[i].type, "mmap_rules", kOthers[i].key_size, kOthers[i].value_size,
                                   kOthers[i].entries, &options);
    try_all(kOthers[i].name, map);
    if (map < 0) continue;
    struct termios terminal;
    word("ioctl", ioctl(map, TCGETS, &terminal) != 0);
    printf("\n");
    close(map);
  }
}

// An array that could be mapped but for what is in its values.
static int make_locked(void) {
  struct btf* types = btf__new_empty();
  const int word = btf__add_int(types, "unsigned int", 4, 0);
  const int lock = btf__add_struct(types, "bpf_spin_lock", 4);
  btf__add_field(types, "val", word, 0, 0);
  const int value = btf__add_struct(types, "value", 8);
  btf__add_field(types, "lock", lock, 0, 0);
  btf__add_field(types, "number", word, 32, 0);
  if (btf__load_into_kernel(types) != 0) return -1;
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE, .btf_fd = btf__fd(types),
              .btf_key_type_id = word, .btf_value_type_id = value);
  const int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "mmap_rules", 4, 8, 4, &options);
  btf__free(types);
  return map;
}

int main(int count, char** arguments) {
  if (count > 1 && strcmp(arguments[1], "others") == 0) {
    try_others();
    return 0;
  }
  try_all("hash", make(BPF_MAP_TYPE_HASH, 0));
  try_all("array", make(BPF_MAP_TYPE_ARRAY, 0));
  try_all("percpu_array", make(BPF_MAP_TYPE_PERCPU_ARRAY, 0));
  int map = make(BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE);
  try_all("mmapable", map);
  try_all("rdonly", make(BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE | BPF_F_RDONLY));
  try_all("wronly", make(BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE | BPF_F_WRONLY));
  try_all("rdonly_prog", make(BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE | BPF_F_RDONLY_PROG));
  try_all("wronly_prog", make(BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE | BPF_F_WRONLY_PROG));
  try_all("locked", make_locked());

  void* writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
  word("freeze while writable:", bpf_map_freeze(map) != 0);
  munmap(writable, 4096);
  __u64* readable = mmap(NULL, 4096, PROT_READ, MAP_SHARED, map, 0);
  word("while readable:", bpf_map_freeze(map) != 0);
  printf("\n");
  try_all("frozen", map);

  // The mapping alone keeps the map.
  struct bpf_map_info info = {0};
  __u32 size = sizeof(info);
  bpf_obj_get_info_by_fd(map, &info, &size);
  close(map);
  map = bpf_map_get_fd_by_id(info.id);
  word("by id while mapped:", map < 0);
  close(map);
  printf("  value %llu\n", readable[0]);
  munmap(readable, 4096);
  for (int i = 0; i < 100 && (map = bpf_map_get_fd_by_id(info.id)) >= 0; ++i) {
    close(map);
    usleep(50000);
  }
  word("by id when unmapped:", map < 0);
  printf("\n");
  return 0;
}
