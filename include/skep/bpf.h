/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skep's bpf(2): one C function on real file descriptors.
 *
 * skep_bpf() takes the arguments of the bpf(2) system call and answers as Linux 6.18 does: the result (0, a file
 * descriptor, ...) or -1 with errno set. Any thread of any process of the instance's user may call it at any time.
 * The instance is the directory $SKEP_DIR, else /dev/shm/skep-$UID.
 */
#ifndef SKEP_BPF_H
#define SKEP_BPF_H

#include <skep/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

int skep_bpf(int cmd, union bpf_attr *attr, unsigned int size);

/* A sentence about the last failure of this thread that errno alone does not explain ("" when there is none). */
const char *skep_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
