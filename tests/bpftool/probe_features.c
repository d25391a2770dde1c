// SPDX-License-Identifier: Apache-2.0
// What libbpf's own feature probes find.

#include <bpf/libbpf.h>
#include <stdio.h>

static const struct {
  const char* name;
  enum bpf_map_type type;
} kMaps[] = {
    {"hash", BPF_MAP_TYPE_HASH},
    {"array", BPF_MAP_TYPE_ARRAY},
    {"percpu_hash", BPF_MAP_TYPE_PERCPU_HASH},
    {"percpu_array", BPF_MAP_TYPE_PERCPU_ARRAY},
};

static const struct {
  const char* name;
  enum bpf_prog_type type;
} kPrograms[] = {
    {"socket_filter", BPF_PROG_TYPE_SOCKET_FILTER},
    {"sched_cls", BPF_PROG_TYPE_SCHED_CLS},
    {"xdp", BPF_PROG_TYPE_XDP},
    {"raw_tracepoint", BPF_PROG_TYPE_RAW_TRACEPOINT},
    {"tracepoint", BPF_PROG_TYPE_TRACEPOINT},
    {"kprobe", BPF_PROG_TYPE_KPROBE},
    {"syscall", BPF_PROG_TYPE_SYSCALL},
    {"cgroup_skb", BPF_PROG_TYPE_CGROUP_SKB},
};

static const struct {
  const char* name;
  enum bpf_func_id id;
} kHelpers[] = {
    {"map_lookup_elem", BPF_FUNC_map_lookup_elem},
    {"map_update_elem", BPF_FUNC_map_update_elem},
    {"ktime_get_ns", BPF_FUNC_ktime_get_ns},
    {"get_prandom_u32", BPF_FUNC_get_prandom_u32},
    {"get_smp_processor_id", BPF_FUNC_get_smp_processor_id},
};

int main(void) {
  libbpf_set_print(NULL);
  for (unsigned i = 0; i < sizeof(kMaps) / sizeof(kMaps[0]); ++i) {
    printf("map %s: %d\n", kMaps[i].name, libbpf_probe_bpf_map_type(kMaps[i].type, NULL));
  }
  for (unsigned i = 0; i < sizeof(kPrograms) / sizeof(kPrograms[0]); ++i) {
    printf("program %s: %d\n", kPrograms[i].name, libbpf_probe_bpf_prog_type(kPrograms[i].type, NULL));
  }
  for (unsigned i = 0; i < sizeof(kHelpers) / sizeof(kHelpers[0]); ++i) {
    printf("helper %s: %d\n", kHelpers[i].name, libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, kHelpers[i].id, NULL));
  }
  return 0;
}
