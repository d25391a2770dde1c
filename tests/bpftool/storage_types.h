// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/bpf.h>

/// BTF with int (type 1) and long (type 2), which maps of storage cannot be without; the descriptor.
static inline int load_storage_types(void) {
  static const unsigned char types[] = {0x9f, 0xeb, 1,  0,  24, 0, 0,   0,   0,   0, 0,   0,   32,  0,   0, 0, 32,
                                        0,    0,    0,  10, 0,  0, 0,   1,   0,   0, 0,   0,   0,   0,   1, 4, 0,
                                        0,    0,    32, 0,  0,  1, 5,   0,   0,   0, 0,   0,   0,   1,   8, 0, 0,
                                        0,    64,   0,  0,  1,  0, 'i', 'n', 't', 0, 'l', 'o', 'n', 'g', 0};
  return bpf_btf_load(types, sizeof(types), NULL);
}

static inline int create_storage(enum bpf_map_type type, const char* name, unsigned flags, int btf) {
  LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC | flags, .btf_fd = btf, .btf_key_type_id = 1,
              .btf_value_type_id = 2);
  return bpf_map_create(type, name, 4, 8, 0, &opts);
}
