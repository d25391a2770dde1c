/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's LRU loops keep for each CPU; read and set from C++. */
#ifndef SKEP_BENCH_LRU_THREAD_H
#define SKEP_BENCH_LRU_THREAD_H

#include <linux/types.h>

struct lru_thread {
  __u64 random;
  __u64 fresh; /* the next number of a key that was never in the map */
  __u64 hits;
  __u64 failed;
  __u64 unused[4];
};

#endif
