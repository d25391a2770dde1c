/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#define MOST_CPUS 4

enum operation { OP_OUTPUT, OP_STAMPED, OP_READ, OP_READ_VALUE, OP_READ_WRONG_SIZE };

struct scratch {
  char data[66000];
  __u64 flags;
  struct bpf_perf_event_value value;
};
