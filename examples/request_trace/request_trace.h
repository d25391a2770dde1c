/* SPDX-License-Identifier: Apache-2.0 */
/* What the BPF programs keep and the server reads. Times in nanoseconds. */
#ifndef REQUEST_TRACE_H
#define REQUEST_TRACE_H

#include <linux/types.h>

#define LATENCY_CLASSES 32 /* class c: latencies of 2^c .. 2^(c+1)-1 ns; the last one takes all longer ones */

/* The requests that a task, a connection or a cgroup has answered. */
struct totals {
  __u64 requests;
  __u64 latency; /* of all of them */
  __u64 slowest;
};

/* The arguments of the programs. */
struct request {
  __u64 connection; /* the reference of the connection's owner */
  __u64 bytes;      /* of the answer; request_end only */
};

#endif
