// SPDX-License-Identifier: Apache-2.0
#include "kind_forms.h"

#include "maps/map_kinds.h"

namespace skep::oracle {
namespace {

constexpr KindForm kForms[] = {
    {"hash", BPF_MAP_TYPE_HASH, 4, 8, 4},
    {"hash, not preallocated", BPF_MAP_TYPE_HASH, 4, 8, 4, BPF_F_NO_PREALLOC},
    {"array", BPF_MAP_TYPE_ARRAY, 4, 8, 4},
    {"mmapable array", BPF_MAP_TYPE_ARRAY, 4, 8, 4, BPF_F_MMAPABLE},
    {"prog_array", BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4},
    {"perf_event_array", BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 4},
    {"percpu_hash", BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 4},
    {"percpu_array", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 4},
    {"stack_trace", BPF_MAP_TYPE_STACK_TRACE, 4, 80, 4},
    {"stack_trace of build ids", BPF_MAP_TYPE_STACK_TRACE, 4, 64, 4, BPF_F_STACK_BUILD_ID},
    {"cgroup_array", BPF_MAP_TYPE_CGROUP_ARRAY, 4, 4, 4},
    {"lru_hash", BPF_MAP_TYPE_LRU_HASH, 4, 8, 1024},
    {"lru_hash, no common lists", BPF_MAP_TYPE_LRU_HASH, 4, 8, 1024, BPF_F_NO_COMMON_LRU},
    {"lru_percpu_hash", BPF_MAP_TYPE_LRU_PERCPU_HASH, 4, 8, 1024},
    {"lpm_trie", BPF_MAP_TYPE_LPM_TRIE, 8, 8, 4, BPF_F_NO_PREALLOC},
    {"array_of_maps", BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 4, 0, true},
    {"hash_of_maps", BPF_MAP_TYPE_HASH_OF_MAPS, 4, 4, 4, 0, true},
    {"devmap", BPF_MAP_TYPE_DEVMAP, 4, 4, 4},
    {"sockmap", BPF_MAP_TYPE_SOCKMAP, 4, 8, 4},
    {"cpumap", BPF_MAP_TYPE_CPUMAP, 4, 4, 2},
    {"xskmap", BPF_MAP_TYPE_XSKMAP, 4, 4, 4},
    {"sockhash", BPF_MAP_TYPE_SOCKHASH, 4, 8, 4},
    {"cgroup_storage", BPF_MAP_TYPE_CGROUP_STORAGE, 16, 8, 0},
    {"cgroup_storage by inode", BPF_MAP_TYPE_CGROUP_STORAGE, 8, 8, 0},
    {"reuseport_sockarray", BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 4},
    {"percpu_cgroup_storage", BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 16, 8, 0},
    {"queue", BPF_MAP_TYPE_QUEUE, 0, 8, 4},
    {"stack", BPF_MAP_TYPE_STACK, 0, 8, 4},
    {"sk_storage", BPF_MAP_TYPE_SK_STORAGE, 4, 8, 0, BPF_F_NO_PREALLOC, false, true},
    {"devmap_hash", BPF_MAP_TYPE_DEVMAP_HASH, 4, 4, 4},
    {"struct_ops", BPF_MAP_TYPE_STRUCT_OPS, 4, 8, 1, 0, false, true},
    {"ringbuf", BPF_MAP_TYPE_RINGBUF, 0, 0, 4096},
    {"inode_storage", BPF_MAP_TYPE_INODE_STORAGE, 4, 8, 0, BPF_F_NO_PREALLOC, false, true},
    {"task_storage", BPF_MAP_TYPE_TASK_STORAGE, 4, 8, 0, BPF_F_NO_PREALLOC, false, true},
    {"bloom_filter", BPF_MAP_TYPE_BLOOM_FILTER, 0, 8, 4},
    {"user_ringbuf", BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 4096},
    {"cgrp_storage", BPF_MAP_TYPE_CGRP_STORAGE, 4, 8, 0, BPF_F_NO_PREALLOC, false, true},
    {"arena", BPF_MAP_TYPE_ARENA, 0, 0, 4, BPF_F_MMAPABLE},
};

}  // namespace

std::span<const KindForm> kind_forms() { return kForms; }

bool skep_has(uint32_t type) { return find_map_kind(type) != nullptr; }

}  // namespace skep::oracle
