/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps without descriptors: the stable C ABI under skep's C++ classes, usable from any language.
 *
 * These functions and bpf(2) are two thin faces of the same maps: a map made here has an id, can be pinned, and is seen
 * by bpftool; a map made by bpf(2) can be opened here. A handle needs no descriptor, and reading makes no system call
 * and takes no lock.
 *
 * Results: 0 or a count on success, -errno (Linux's numbers) on failure; skep_last_error() of <skep/bpf.h> explains
 * where a number cannot. The errno of each operation are bpf(2)'s for the kind of map.
 * Threads: all functions may be called by any thread at any time, except that nobody uses a handle during or after its
 * close. After fork(2) the child may use the parent's handles; it closes its own copies. Not for signal handlers.
 */
#ifndef SKEP_MAP_H
#define SKEP_MAP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct skep_instance; /* a directory of objects, open in this process */
struct skep_map;      /* a map of an instance, mapped into this process */

/* Opens the instance in `directory` (NULL: $SKEP_DIR, else /dev/shm/skep-$UID), making it where it is missing. */
int skep_instance_open(const char *directory, struct skep_instance **out);
/* Maps opened through the instance stay usable. */
void skep_instance_close(struct skep_instance *instance);
/* One more handle of the same instance, to be closed too; it may be `instance` itself. */
struct skep_instance *skep_instance_share(struct skep_instance *instance);
/* CPUs that per-CPU values have parts for. */
uint32_t skep_instance_cpus(const struct skep_instance *instance);

/* What a map is. `size` is sizeof(struct skep_map_attr) of the caller: later versions append fields. */
struct skep_map_attr {
  uint32_t size;
  uint32_t type; /* BPF_MAP_TYPE_* */
  uint32_t key_size;
  uint32_t value_size;
  uint32_t max_entries;
  uint32_t flags; /* BPF_F_* of BPF_MAP_CREATE, except BPF_F_RDONLY and BPF_F_WRONLY */
  char name[16];  /* at most 15 characters of [A-Za-z0-9_.] */
  uint32_t id;    /* output only */
  uint32_t reserved;
  uint64_t extra; /* BLOOM_FILTER: bits per value, at most 15 (0: 5); RHASH: elements expected */
};

enum skep_access { SKEP_READ_WRITE = 0, SKEP_READ_ONLY = 1 };

/* Makes a map. It lives until its last handle, descriptor and pin is gone. */
int skep_map_create(struct skep_instance *instance, const struct skep_map_attr *attr, struct skep_map **out);
int skep_map_open_id(struct skep_instance *instance, uint32_t id, int access, struct skep_map **out);
/* `path` as clients of bpf(2) name pins: below /sys/fs/bpf or below the instance's pins/. */
int skep_map_open_pin(struct skep_instance *instance, const char *path, int access, struct skep_map **out);
void skep_map_close(struct skep_map *map);
int skep_map_pin(const struct skep_map *map, const char *path);
/* Fills what attr->size has room for. */
int skep_map_describe(const struct skep_map *map, struct skep_map_attr *attr);
/* Bytes that one value has for the functions below: value_size, or round_up(value_size, 8) * CPUs for per-CPU kinds. */
uint64_t skep_map_value_bytes(const struct skep_map *map);

/* -- reading: copies, never torn by other operations ------------------------------------------------------------- */
/*
 * Kinds without keys (QUEUE, STACK, BLOOM_FILTER) take NULL. QUEUE, STACK: get peeks, update pushes, take pops.
 * BLOOM_FILTER: update adds a value, get asks for the one in `value`; -ENOENT: certainly not added.
 */
/* -ENOENT: no such key. flags: BPF_F_LOCK; BPF_F_CPU | cpu << 32 (then one value of value_size bytes). */
int skep_map_get(const struct skep_map *map, const void *key, void *value, uint64_t flags);
/* Several keys at once, cache misses overlapped: found[i] is 1 and value i written where key i exists. Their number. */
int64_t skep_map_get_many(const struct skep_map *map, const void *keys, void *values, uint8_t *found, uint32_t count);
/* The key after `key` in no particular order; `key` NULL or unknown: the first. -ENOENT: it was the last. */
int skep_map_next_key(const struct skep_map *map, const void *key, void *next);
/*
 * Walks the map in copied pieces. `cursor` points to skep_map_cursor_bytes() bytes that the caller zeroes before the
 * first call and leaves alone afterwards. At most *count elements are written to keys and values, and their number to *count. 0: go on;
 * -ENOENT: these were the last; -ENOSPC: call again with room for more elements (*count is a sufficient hint).
 * Elements that exist during the whole walk are seen; ones inserted or erased meanwhile may be.
 */
uint64_t skep_map_cursor_bytes(const struct skep_map *map);
int skep_map_get_batch(const struct skep_map *map, void *cursor, void *keys, void *values, uint32_t *count);

/* -- changing: -EPERM through a read-only handle or on a frozen map ------------------------------------------------ */
/* flags: BPF_ANY, BPF_NOEXIST (-EEXIST), BPF_EXIST (-ENOENT), BPF_F_LOCK, BPF_F_CPU | cpu << 32, BPF_F_ALL_CPUS. */
int skep_map_update(struct skep_map *map, const void *key, const void *value, uint64_t flags);
int skep_map_erase(struct skep_map *map, const void *key);
/* Copies out and erases in one step. */
int skep_map_take(struct skep_map *map, const void *key, void *value);
/*
 * Replaces a value by what `change` makes of a copy of it; no other update comes between. Per-CPU kinds: the part of
 * the CPU that the thread runs on. `change` may be called more than once, must not use the map and must not throw.
 */
int skep_map_modify(struct skep_map *map, const void *key, void (*change)(void *value, void *context), void *context);

/* -- pointers ------------------------------------------------------------------------------------------------------ */
/*
 * While a guard is entered, what skep_map_find() returned stays valid memory. It belongs to one thread and one stack
 * frame. Guards nest; keep them short and never wait inside: the machine has a bounded number of slots.
 */
struct skep_guard {
  uint64_t opaque[8];
};
void skep_guard_enter(const struct skep_map *map, struct skep_guard *guard);
void skep_guard_leave(struct skep_guard *guard);
/*
 * The value in place, as bpf_map_lookup_elem() gives it to a program (per-CPU kinds: the part of the guard's CPU, which
 * no other guard or program uses meanwhile); NULL when absent. Others read and write it at the same time. Writable
 * memory only through a read-write handle.
 */
void *skep_map_find(const struct skep_map *map, const struct skep_guard *guard, const void *key);

/* -- ring buffers (RINGBUF): -EINVAL for other maps, -EPERM through a read-only handle ------------------------------- */
/*
 * Producers are any number of threads, processes and programs. A record that was reserved is submitted or discarded by
 * the same process, once; until then consumers wait before it, unless the process dies. Flags: BPF_RB_NO_WAKEUP,
 * BPF_RB_FORCE_WAKEUP. -EAGAIN: no room.
 */
int skep_ringbuf_reserve(struct skep_map *map, uint64_t size, void **record);
void skep_ringbuf_submit(struct skep_map *map, void *record, uint64_t flags);
void skep_ringbuf_discard(struct skep_map *map, void *record, uint64_t flags);
int skep_ringbuf_output(struct skep_map *map, const void *data, uint64_t size, uint64_t flags);
/*
 * Calls `record` with each record that is finished, in order, at most `most` of them, and returns how many they were; a
 * negative result of `record` ends it and is returned. There is one consumer at a time. -EOPNOTSUPP: a ring with
 * BPF_F_RB_OVERWRITE; -EIO: the ring is damaged.
 */
int64_t skep_ringbuf_consume(struct skep_map *map, uint64_t most,
                             int (*record)(void *context, void *data, uint64_t size), void *context);
/* Waits for a finished record: 1; 0 after that many milliseconds (negative: without end); -EINTR. */
int skep_ringbuf_wait(struct skep_map *map, int milliseconds);

/* -- local storage (TASK_STORAGE, CGRP_STORAGE, SK_STORAGE, INODE_STORAGE): -EINVAL for other maps ------------------- */
/*
 * Such a map has a value for each owner that was given one. Owners are tasks, cgroups, sockets and inodes, by the
 * descriptors that bpf(2) takes as keys (with its errno: -EBADF, -ENOTSOCK; -ENOENT: it is gone, or has no value), and
 * objects of applications, by their references. Made with a key_size of 4, BPF_F_NO_PREALLOC and no max_entries.
 */
int skep_storage_get_fd(const struct skep_map *map, int fd, void *value, uint64_t flags);
int skep_storage_update_fd(struct skep_map *map, int fd, const void *value, uint64_t flags);
int skep_storage_erase_fd(struct skep_map *map, int fd);
/*
 * An object of this process as an owner, in any map of local storage of the instance, whatever its kind; programs that
 * are given the reference pass it to bpf_task_storage_get() and the like in the task's place. It names nothing after
 * skep_owner_destroy(), which frees what the object has in these maps, or after the end of the process that made it:
 * in a forked child skep_owner_destroy() does nothing. -ENOMEM.
 */
int skep_owner_make(struct skep_instance *instance, uint64_t *reference);
int skep_owner_destroy(struct skep_instance *instance, uint64_t reference);
/* In place of a reference: the calling thread, for TASK_STORAGE. 0 names nothing. */
#define SKEP_CURRENT_TASK UINT64_MAX
int skep_storage_get(const struct skep_map *map, uint64_t owner, void *value, uint64_t flags);
int skep_storage_update(struct skep_map *map, uint64_t owner, const void *value, uint64_t flags);
int skep_storage_erase(struct skep_map *map, uint64_t owner);
/* The value in place, as skep_map_find(); NULL: none. The other one makes it from `initial` (NULL: zeros) if need be. */
void *skep_storage_find(const struct skep_map *map, const struct skep_guard *guard, uint64_t owner);
int skep_storage_find_or_make(struct skep_map *map, const struct skep_guard *guard, uint64_t owner,
                              const void *initial, void **value);
/* Whose a value is. */
struct skep_storage_owner {
  uint32_t kind; /* 0 task, 1 cgroup, 2 socket, 3 inode, 4 object */
  uint32_t reserved;
  uint64_t id; /* task: inode of its pidfds; cgroup: id; socket: cookie; inode: its number; object: its reference */
};
/*
 * Calls `visit` for each value, in place and in no order, until it returns other than 0; how often it did. Values that
 * come or go meanwhile may be seen. `visit` must not throw or wait.
 */
int64_t skep_storage_for_each(const struct skep_map *map,
                              int (*visit)(void *context, const struct skep_storage_owner *owner, void *value),
                              void *context);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
