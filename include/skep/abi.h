/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numbers and structures of bpf(2), as of Linux 6.18 with the additions of the releases after it.
 *
 * Debian's <linux/bpf.h> stops at 6.1, so skep states the ABI itself. The names are the ABI's own names; include either
 * this header or <linux/bpf.h>: when the kernel's header came first, this one adds only what skep needs on top.
 */
#ifndef SKEP_ABI_H
#define SKEP_ABI_H

#include <stdint.h>

#if !defined(_UAPI__LINUX_BPF_H__) && !defined(__LINUX_BPF_H__)
#define _UAPI__LINUX_BPF_H__ 1
#define __LINUX_BPF_H__ 1

enum bpf_cmd {
  BPF_MAP_CREATE = 0,
  BPF_MAP_LOOKUP_ELEM = 1,
  BPF_MAP_UPDATE_ELEM = 2,
  BPF_MAP_DELETE_ELEM = 3,
  BPF_MAP_GET_NEXT_KEY = 4,
  BPF_PROG_LOAD = 5,
  BPF_OBJ_PIN = 6,
  BPF_OBJ_GET = 7,
  BPF_PROG_ATTACH = 8,
  BPF_PROG_DETACH = 9,
  BPF_PROG_TEST_RUN = 10,
  BPF_PROG_RUN = BPF_PROG_TEST_RUN,
  BPF_PROG_GET_NEXT_ID = 11,
  BPF_MAP_GET_NEXT_ID = 12,
  BPF_PROG_GET_FD_BY_ID = 13,
  BPF_MAP_GET_FD_BY_ID = 14,
  BPF_OBJ_GET_INFO_BY_FD = 15,
  BPF_PROG_QUERY = 16,
  BPF_RAW_TRACEPOINT_OPEN = 17,
  BPF_BTF_LOAD = 18,
  BPF_BTF_GET_FD_BY_ID = 19,
  BPF_TASK_FD_QUERY = 20,
  BPF_MAP_LOOKUP_AND_DELETE_ELEM = 21,
  BPF_MAP_FREEZE = 22,
  BPF_BTF_GET_NEXT_ID = 23,
  BPF_MAP_LOOKUP_BATCH = 24,
  BPF_MAP_LOOKUP_AND_DELETE_BATCH = 25,
  BPF_MAP_UPDATE_BATCH = 26,
  BPF_MAP_DELETE_BATCH = 27,
  BPF_LINK_CREATE = 28,
  BPF_LINK_UPDATE = 29,
  BPF_LINK_GET_FD_BY_ID = 30,
  BPF_LINK_GET_NEXT_ID = 31,
  BPF_ENABLE_STATS = 32,
  BPF_ITER_CREATE = 33,
  BPF_LINK_DETACH = 34,
  BPF_PROG_BIND_MAP = 35,
  BPF_TOKEN_CREATE = 36,
  BPF_PROG_STREAM_READ_BY_FD = 37,
};

enum bpf_map_type {
  BPF_MAP_TYPE_UNSPEC = 0,
  BPF_MAP_TYPE_HASH = 1,
  BPF_MAP_TYPE_ARRAY = 2,
  BPF_MAP_TYPE_PROG_ARRAY = 3,
  BPF_MAP_TYPE_PERF_EVENT_ARRAY = 4,
  BPF_MAP_TYPE_PERCPU_HASH = 5,
  BPF_MAP_TYPE_PERCPU_ARRAY = 6,
  BPF_MAP_TYPE_STACK_TRACE = 7,
  BPF_MAP_TYPE_CGROUP_ARRAY = 8,
  BPF_MAP_TYPE_LRU_HASH = 9,
  BPF_MAP_TYPE_LRU_PERCPU_HASH = 10,
  BPF_MAP_TYPE_LPM_TRIE = 11,
  BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
  BPF_MAP_TYPE_HASH_OF_MAPS = 13,
  BPF_MAP_TYPE_DEVMAP = 14,
  BPF_MAP_TYPE_SOCKMAP = 15,
  BPF_MAP_TYPE_CPUMAP = 16,
  BPF_MAP_TYPE_XSKMAP = 17,
  BPF_MAP_TYPE_SOCKHASH = 18,
  BPF_MAP_TYPE_CGROUP_STORAGE = 19,
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY = 20,
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE = 21,
  BPF_MAP_TYPE_QUEUE = 22,
  BPF_MAP_TYPE_STACK = 23,
  BPF_MAP_TYPE_SK_STORAGE = 24,
  BPF_MAP_TYPE_DEVMAP_HASH = 25,
  BPF_MAP_TYPE_STRUCT_OPS = 26,
  BPF_MAP_TYPE_RINGBUF = 27,
  BPF_MAP_TYPE_INODE_STORAGE = 28,
  BPF_MAP_TYPE_TASK_STORAGE = 29,
  BPF_MAP_TYPE_BLOOM_FILTER = 30,
  BPF_MAP_TYPE_USER_RINGBUF = 31,
  BPF_MAP_TYPE_CGRP_STORAGE = 32,
  BPF_MAP_TYPE_ARENA = 33,
  BPF_MAP_TYPE_INSN_ARRAY = 34,
  BPF_MAP_TYPE_RHASH = 35,
};

enum bpf_prog_type {
  BPF_PROG_TYPE_UNSPEC = 0,
  BPF_PROG_TYPE_SOCKET_FILTER = 1,
  BPF_PROG_TYPE_KPROBE = 2,
  BPF_PROG_TYPE_SCHED_CLS = 3,
  BPF_PROG_TYPE_SCHED_ACT = 4,
  BPF_PROG_TYPE_TRACEPOINT = 5,
  BPF_PROG_TYPE_XDP = 6,
  BPF_PROG_TYPE_PERF_EVENT = 7,
  BPF_PROG_TYPE_CGROUP_SKB = 8,
  BPF_PROG_TYPE_CGROUP_SOCK = 9,
  BPF_PROG_TYPE_RAW_TRACEPOINT = 17,
  BPF_PROG_TYPE_TRACING = 26,
  BPF_PROG_TYPE_SYSCALL = 31,
};

enum bpf_attach_type { BPF_TRACE_ITER = 28 };
enum bpf_link_type { BPF_LINK_TYPE_ITER = 4 };

/* Flags of the element commands. The upper 32 bits name the CPU when BPF_F_CPU is set. */
enum {
  BPF_ANY = 0,
  BPF_NOEXIST = 1,
  BPF_EXIST = 2,
  BPF_F_LOCK = 4,
  BPF_F_CPU = 8,
  BPF_F_ALL_CPUS = 16,
};

/* Flags of BPF_MAP_CREATE (and of BPF_OBJ_GET / GET_FD_BY_ID: RDONLY, WRONLY; of OBJ_PIN / GET: PATH_FD). */
enum {
  BPF_F_NO_PREALLOC = 1U << 0,
  BPF_F_NO_COMMON_LRU = 1U << 1,
  BPF_F_NUMA_NODE = 1U << 2,
  BPF_F_RDONLY = 1U << 3,
  BPF_F_WRONLY = 1U << 4,
  BPF_F_STACK_BUILD_ID = 1U << 5,
  BPF_F_ZERO_SEED = 1U << 6,
  BPF_F_RDONLY_PROG = 1U << 7,
  BPF_F_WRONLY_PROG = 1U << 8,
  BPF_F_CLONE = 1U << 9,
  BPF_F_MMAPABLE = 1U << 10,
  BPF_F_PRESERVE_ELEMS = 1U << 11,
  BPF_F_INNER_MAP = 1U << 12,
  BPF_F_LINK = 1U << 13,
  BPF_F_PATH_FD = 1U << 14,
  BPF_F_VTYPE_BTF_OBJ_FD = 1U << 15,
  BPF_F_TOKEN_FD = 1U << 16,
  BPF_F_SEGV_ON_FAULT = 1U << 17,
  BPF_F_NO_USER_CONV = 1U << 18,
  BPF_F_RB_OVERWRITE = 1U << 19,
};

/* Ring buffers: flags of submit, discard, output and drain, and what bpf_ringbuf_query() is asked for. */
enum { BPF_RB_NO_WAKEUP = 1U << 0, BPF_RB_FORCE_WAKEUP = 1U << 1 };
enum {
  BPF_RB_AVAIL_DATA = 0,
  BPF_RB_RING_SIZE = 1,
  BPF_RB_CONS_POS = 2,
  BPF_RB_PROD_POS = 3,
  BPF_RB_OVERWRITE_POS = 4
};

/* Flags of bpf_timer_start(). */
enum { BPF_F_TIMER_ABS = 1U << 0, BPF_F_TIMER_CPU_PIN = 1U << 1 };

/* Flags of BPF_PROG_LOAD and BPF_PROG_TEST_RUN. */
enum {
  BPF_F_STRICT_ALIGNMENT = 1U << 0,
  BPF_F_ANY_ALIGNMENT = 1U << 1,
  BPF_F_TEST_RND_HI32 = 1U << 2,
  BPF_F_TEST_STATE_FREQ = 1U << 3,
  BPF_F_SLEEPABLE = 1U << 4,
  BPF_F_XDP_HAS_FRAGS = 1U << 5,
  BPF_F_XDP_DEV_BOUND_ONLY = 1U << 6,
  BPF_F_TEST_REG_INVARIANTS = 1U << 7,
  BPF_F_TEST_RUN_ON_CPU = 1U << 0,
  BPF_F_TEST_XDP_LIVE_FRAMES = 1U << 1,
  BPF_F_TEST_SKB_CHECKSUM_COMPLETE = 1U << 2,
};

enum { BPF_STATS_RUN_TIME = 0 };
enum { BPF_OBJ_NAME_LEN = 16, BPF_TAG_SIZE = 8 };

/* One instruction; BPF_LD | BPF_IMM | BPF_DW takes two. */
struct bpf_insn {
  uint8_t code;
  uint8_t dst_reg : 4;
  uint8_t src_reg : 4;
  int16_t off;
  int32_t imm;
};

/* Source registers that give a BPF_LD | BPF_IMM | BPF_DW or a BPF_CALL its meaning. */
enum {
  BPF_PSEUDO_MAP_FD = 1,
  BPF_PSEUDO_MAP_VALUE = 2,
  BPF_PSEUDO_BTF_ID = 3,
  BPF_PSEUDO_FUNC = 4,
  BPF_PSEUDO_MAP_IDX = 5,
  BPF_PSEUDO_MAP_IDX_VALUE = 6,
  BPF_PSEUDO_CALL = 1,
  BPF_PSEUDO_KFUNC_CALL = 2,
};

union bpf_attr {
  __extension__ struct { /* BPF_MAP_CREATE */
    uint32_t map_type;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t max_entries;
    uint32_t map_flags;
    uint32_t inner_map_fd;
    uint32_t numa_node;
    char map_name[BPF_OBJ_NAME_LEN];
    uint32_t map_ifindex;
    uint32_t btf_fd;
    uint32_t btf_key_type_id;
    uint32_t btf_value_type_id;
    uint32_t btf_vmlinux_value_type_id;
    uint64_t map_extra;
    int32_t value_type_btf_obj_fd;
    int32_t map_token_fd;
    uint64_t excl_prog_hash;
    uint32_t excl_prog_hash_size;
  };
  __extension__ struct { /* BPF_MAP_*_ELEM, BPF_MAP_GET_NEXT_KEY, BPF_MAP_FREEZE */
    uint32_t map_fd;
    uint64_t key;
    __extension__ union {
      uint64_t value;
      uint64_t next_key;
    };
    uint64_t flags;
  };
  __extension__ struct { /* BPF_MAP_*_BATCH */
    uint64_t in_batch;
    uint64_t out_batch;
    uint64_t keys;
    uint64_t values;
    uint32_t count;
    uint32_t map_fd;
    uint64_t elem_flags;
    uint64_t flags;
  } batch;
  __extension__ struct { /* BPF_PROG_LOAD */
    uint32_t prog_type;
    uint32_t insn_cnt;
    uint64_t insns;
    uint64_t license;
    uint32_t log_level;
    uint32_t log_size;
    uint64_t log_buf;
    uint32_t kern_version;
    uint32_t prog_flags;
    char prog_name[BPF_OBJ_NAME_LEN];
    uint32_t prog_ifindex;
    uint32_t expected_attach_type;
    uint32_t prog_btf_fd;
    uint32_t func_info_rec_size;
    uint64_t func_info;
    uint32_t func_info_cnt;
    uint32_t line_info_rec_size;
    uint64_t line_info;
    uint32_t line_info_cnt;
    uint32_t attach_btf_id;
    __extension__ union {
      uint32_t attach_prog_fd;
      uint32_t attach_btf_obj_fd;
    };
    uint32_t core_relo_cnt;
    uint64_t fd_array;
    uint64_t core_relos;
    uint32_t core_relo_rec_size;
    uint32_t log_true_size;
    int32_t prog_token_fd;
    uint32_t fd_array_cnt;
    uint64_t signature;
    uint32_t signature_size;
    int32_t keyring_id;
  };
  __extension__ struct { /* BPF_OBJ_PIN, BPF_OBJ_GET */
    uint64_t pathname;
    uint32_t bpf_fd;
    uint32_t file_flags;
    int32_t path_fd;
  };
  __extension__ struct { /* BPF_PROG_ATTACH, BPF_PROG_DETACH */
    uint32_t target_fd;
    uint32_t attach_bpf_fd;
    uint32_t attach_type;
    uint32_t attach_flags;
    uint32_t replace_bpf_fd;
    uint32_t relative_fd;
    uint64_t expected_revision;
  };
  __extension__ struct { /* BPF_PROG_TEST_RUN */
    uint32_t prog_fd;
    uint32_t retval;
    uint32_t data_size_in;
    uint32_t data_size_out;
    uint64_t data_in;
    uint64_t data_out;
    uint32_t repeat;
    uint32_t duration;
    uint32_t ctx_size_in;
    uint32_t ctx_size_out;
    uint64_t ctx_in;
    uint64_t ctx_out;
    uint32_t flags;
    uint32_t cpu;
    uint32_t batch_size;
  } test;
  __extension__ struct { /* BPF_*_GET_NEXT_ID, BPF_*_GET_FD_BY_ID */
    __extension__ union {
      uint32_t start_id;
      uint32_t prog_id;
      uint32_t map_id;
      uint32_t btf_id;
      uint32_t link_id;
    };
    uint32_t next_id;
    uint32_t open_flags;
    int32_t fd_by_id_token_fd;
  };
  __extension__ struct { /* BPF_OBJ_GET_INFO_BY_FD */
    uint32_t bpf_fd;
    uint32_t info_len;
    uint64_t info;
  } info;
  __extension__ struct { /* BPF_BTF_LOAD */
    uint64_t btf;
    uint64_t btf_log_buf;
    uint32_t btf_size;
    uint32_t btf_log_size;
    uint32_t btf_log_level;
    uint32_t btf_log_true_size;
    uint32_t btf_flags;
    int32_t btf_token_fd;
  };
  __extension__ struct { /* BPF_ENABLE_STATS */
    uint32_t type;
  } enable_stats;
  __extension__ struct { /* BPF_PROG_BIND_MAP */
    uint32_t prog_fd;
    uint32_t map_fd;
    uint32_t flags;
  } prog_bind_map;
  __extension__ struct { /* BPF_LINK_CREATE */
    uint32_t prog_fd;
    uint32_t target_fd;
    uint32_t attach_type;
    uint32_t flags;
    uint64_t iter_info; /* union bpf_iter_link_info */
    uint32_t iter_info_len;
    uint8_t skep_others[32]; /* what other links are made of */
  } link_create;
  __extension__ struct { /* BPF_LINK_UPDATE */
    uint32_t link_fd;
    uint32_t new_prog_fd;
    uint32_t flags;
    uint32_t old_prog_fd;
  } link_update;
  __extension__ struct { /* BPF_LINK_DETACH */
    uint32_t link_fd;
  } link_detach;
  __extension__ struct { /* BPF_ITER_CREATE */
    uint32_t link_fd;
    uint32_t flags;
  } iter_create;
  uint8_t skep_whole[168]; /* the size of the union in 6.18 */
} __attribute__((aligned(8)));

struct bpf_map_info {
  uint32_t type;
  uint32_t id;
  uint32_t key_size;
  uint32_t value_size;
  uint32_t max_entries;
  uint32_t map_flags;
  char name[BPF_OBJ_NAME_LEN];
  uint32_t ifindex;
  uint32_t btf_vmlinux_value_type_id;
  uint64_t netns_dev;
  uint64_t netns_ino;
  uint32_t btf_id;
  uint32_t btf_key_type_id;
  uint32_t btf_value_type_id;
  uint32_t btf_vmlinux_id;
  uint64_t map_extra;
  uint64_t hash;
  uint32_t hash_size;
} __attribute__((aligned(8)));

struct bpf_prog_info {
  uint32_t type;
  uint32_t id;
  uint8_t tag[BPF_TAG_SIZE];
  uint32_t jited_prog_len;
  uint32_t xlated_prog_len;
  uint64_t jited_prog_insns;
  uint64_t xlated_prog_insns;
  uint64_t load_time; /* ns since boot */
  uint32_t created_by_uid;
  uint32_t nr_map_ids;
  uint64_t map_ids;
  char name[BPF_OBJ_NAME_LEN];
  uint32_t ifindex;
  uint32_t gpl_compatible : 1;
  uint32_t skep_pad : 31;
  uint64_t netns_dev;
  uint64_t netns_ino;
  uint32_t nr_jited_ksyms;
  uint32_t nr_jited_func_lens;
  uint64_t jited_ksyms;
  uint64_t jited_func_lens;
  uint32_t btf_id;
  uint32_t func_info_rec_size;
  uint64_t func_info;
  uint32_t nr_func_info;
  uint32_t nr_line_info;
  uint64_t line_info;
  uint64_t jited_line_info;
  uint32_t nr_jited_line_info;
  uint32_t line_info_rec_size;
  uint32_t jited_line_info_rec_size;
  uint32_t nr_prog_tags;
  uint64_t prog_tags;
  uint64_t run_time_ns;
  uint64_t run_cnt;
  uint64_t recursion_misses;
  uint32_t verified_insns;
  uint32_t attach_btf_obj_id;
  uint32_t attach_btf_id;
} __attribute__((aligned(8)));

struct skep_iter_link_info {
  uint64_t target_name;
  uint32_t target_name_len; /* with the NUL */
  struct {
    uint32_t map_id;
  } map;
};

struct bpf_link_info {
  uint32_t type;
  uint32_t id;
  uint32_t prog_id;
  uint32_t skep_pad;
  union {
    struct skep_iter_link_info iter;
    uint8_t skep_whole[48]; /* the size of the union in 6.18 */
  };
} __attribute__((aligned(8)));

union bpf_iter_link_info {
  struct {
    uint32_t map_fd;
  } map;
  uint64_t skep_whole[2];
};

struct bpf_btf_info {
  uint64_t btf;
  uint32_t btf_size;
  uint32_t id;
  uint64_t name;
  uint32_t name_len;
  uint32_t kernel_btf;
} __attribute__((aligned(8)));

struct bpf_func_info {
  uint32_t insn_off;
  uint32_t type_id;
};

struct bpf_line_info {
  uint32_t insn_off;
  uint32_t file_name_off;
  uint32_t line_off;
  uint32_t line_col;
};

#endif /* the kernel's header did not come first */

/* The kernel-internal ENOTSUPP that bpf(2) really returns; it has no name in <errno.h>. */
#define SKEP_ENOTSUPP 524

#endif
