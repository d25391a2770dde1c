// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "syscall/caller.h"

namespace skep {

class Btf;

// Every command of bpf(2), one function each; the table that calls them is in bpf.cc. Behaviour and errno are those of
// Linux 6.18, in its order of checks.

// -- maps (map_create.cc, map_elements.cc, map_batch.cc, map_freeze.cc, map_info.cc)
// ------------------------------------------------
Answer map_create(Caller& caller);
// Those on one element, of which addresses of the client are given, not looked at yet: 0 or -errno.
int map_lookup_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags);
int map_update_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags);
int map_delete_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t, uint64_t);
int map_get_next_key(Process& process, uint32_t map_fd, uint64_t key, uint64_t next_key, uint64_t);
int map_lookup_and_delete_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags);
Answer map_lookup_batch(Caller& caller);
Answer map_lookup_and_delete_batch(Caller& caller);
Answer map_update_batch(Caller& caller);
Answer map_delete_batch(Caller& caller);
Answer map_freeze(Caller& caller);
/// OBJ_GET_INFO_BY_FD for a map.
Answer map_info(Caller& caller, const OpenObject& object);

// -- objects (object_commands.cc, pin_commands.cc)
// --------------------------------------------------------------------------------------
Answer obj_pin(Caller& caller);
Answer obj_get(Caller& caller);
Answer obj_get_info_by_fd(Caller& caller);
Answer prog_get_next_id(Caller& caller);
Answer map_get_next_id(Caller& caller);
Answer btf_get_next_id(Caller& caller);
Answer link_get_next_id(Caller& caller);
Answer prog_get_fd_by_id(Caller& caller);
Answer map_get_fd_by_id(Caller& caller);
Answer btf_get_fd_by_id(Caller& caller);
Answer link_get_fd_by_id(Caller& caller);
Answer enable_stats(Caller& caller);

// -- programs (prog_commands*.cc) and BTF (btf_commands*.cc)
// -----------------------------------------------------------
Answer prog_load(Caller& caller);
Answer prog_test_run(Caller& caller);
Answer prog_bind_map(Caller& caller);
Answer btf_load(Caller& caller);
/// OBJ_GET_INFO_BY_FD for that kind: attr.info is not looked at yet except for bpf_fd.
Answer prog_info(Caller& caller, const OpenObject& object);
Answer btf_info(Caller& caller, const OpenObject& object);
/// The process's side of a program, BTF or perf event file (a fresh descriptor, open for reading; closed after the
/// call).
Result<std::shared_ptr<ObjectFace>> open_program(Process& process, int fd, const FileHeader& header);
Result<std::shared_ptr<ObjectFace>> open_btf(Process& process, int fd, const FileHeader& header);
Result<std::shared_ptr<ObjectFace>> open_perf_event(Process& process, int fd, const FileHeader& header);
/// The BTF of an object whose kind is kBtf.
const Btf& btf_of(const OpenObject& object);
/// The lines of /proc/<pid>/fdinfo/<fd> that belong to the kind (after pos, flags, mnt_id, ino).
std::string prog_fdinfo(const OpenObject& object);
std::string btf_fdinfo(const OpenObject& object);

// -- links (link_commands.cc)
// ---------------------------------------------------------------------------------------------------------------------
Answer link_create(Caller& caller);
Answer link_update(Caller& caller);
Answer link_detach(Caller& caller);
Answer iter_create(Caller& caller);
/// As for programs and BTF.
Answer link_info(Caller& caller, const OpenObject& object);
Result<std::shared_ptr<ObjectFace>> open_link(Process& process, int fd, const FileHeader& header);
std::string link_fdinfo(Process& process, const OpenObject& object);

// -- shared by the kinds (info_size.cc)
// --------------------------------------------------------------------------------
/// The size rules of an info structure: user_size bytes at `user`, of which the kernel knows `known`. E2BIG: the tail
/// behind `known` is not zero, or user_size exceeds a page; EFAULT: it cannot be read. Returns min(user_size, known).
Result<uint32_t> check_info_size(uint64_t user, uint32_t user_size, uint32_t known);
/// Copies `size` bytes (from check_info_size) of `info` out and writes info.info_len back. EFAULT.
Answer finish_info(Caller& caller, const void* info, uint32_t size);

/// Whether anybody of the instance holds a BPF_ENABLE_STATS descriptor. One load while nobody does.
bool stats_enabled(Instance& instance);

}  // namespace skep
