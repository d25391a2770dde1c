/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <linux/types.h>

#define RING_SIZE 4096
#define STOP_VALUE 0x5709

enum { OP_OUTPUT, OP_QUERY, OP_SUBMIT, OP_DISCARD, OP_DYNPTR };

/* The context of the programs. */
struct call {
  __u64 operation;
  __u64 size;
  __u64 flags;
  __u64 value;
};
