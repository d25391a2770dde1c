// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "prog/run.h"

/// The helpers, one function each, under the kernel's names. Their arguments were checked as helper_table.cc says;
/// what they return is what the kernel's return (negative errno values as 64-bit numbers).
namespace skep::helpers {

#define SKEP_HELPER(name) uint64_t name(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)

// helpers_map.cc
SKEP_HELPER(map_lookup_elem);
SKEP_HELPER(map_update_elem);
SKEP_HELPER(map_delete_elem);
SKEP_HELPER(map_lookup_percpu_elem);
SKEP_HELPER(for_each_map_elem);
SKEP_HELPER(loop);
SKEP_HELPER(spin_lock);
SKEP_HELPER(spin_unlock);
SKEP_HELPER(res_spin_lock);
SKEP_HELPER(res_spin_unlock);

// helpers_storage.cc
SKEP_HELPER(task_storage_get);
SKEP_HELPER(task_storage_delete);
SKEP_HELPER(cgrp_storage_get);
SKEP_HELPER(cgrp_storage_delete);
SKEP_HELPER(sk_storage_get);
SKEP_HELPER(sk_storage_delete);
SKEP_HELPER(get_socket_cookie);
SKEP_HELPER(get_current_task_btf);
SKEP_HELPER(task_from_pid);
SKEP_HELPER(cgroup_from_id);
SKEP_HELPER(cgroup_ancestor);
SKEP_HELPER(object_acquire);
SKEP_HELPER(task_release);
SKEP_HELPER(cgroup_release);

// helpers_queue.cc
SKEP_HELPER(map_push_elem);
SKEP_HELPER(map_pop_elem);
SKEP_HELPER(map_peek_elem);

// helpers_system.cc
SKEP_HELPER(ktime_get_ns);
SKEP_HELPER(ktime_get_boot_ns);
SKEP_HELPER(ktime_get_coarse_ns);
SKEP_HELPER(ktime_get_tai_ns);
SKEP_HELPER(jiffies64);
SKEP_HELPER(get_prandom_u32);
SKEP_HELPER(get_smp_processor_id);
SKEP_HELPER(get_numa_node_id);
SKEP_HELPER(get_current_pid_tgid);
SKEP_HELPER(get_current_uid_gid);
SKEP_HELPER(get_current_comm);

// kfuncs_arena.cc
SKEP_HELPER(arena_alloc_pages);
SKEP_HELPER(arena_free_pages);
SKEP_HELPER(arena_reserve_pages);

// kfuncs_sections.cc
SKEP_HELPER(rcu_read_lock);
SKEP_HELPER(rcu_read_unlock);

// helpers_redirect.cc
SKEP_HELPER(redirect);
SKEP_HELPER(redirect_map);
SKEP_HELPER(skb_under_cgroup);
SKEP_HELPER(current_task_under_cgroup);

// helpers_stack.cc
SKEP_HELPER(get_stackid);
SKEP_HELPER(get_stack);

// helpers_probe.cc
SKEP_HELPER(probe_read);
SKEP_HELPER(probe_read_str);
SKEP_HELPER(copy_from_user);

// helpers_ringbuf.cc
SKEP_HELPER(ringbuf_output);
SKEP_HELPER(ringbuf_reserve);
SKEP_HELPER(ringbuf_submit);
SKEP_HELPER(ringbuf_discard);
SKEP_HELPER(ringbuf_query);
SKEP_HELPER(ringbuf_reserve_dynptr);
SKEP_HELPER(ringbuf_submit_dynptr);
SKEP_HELPER(ringbuf_discard_dynptr);
SKEP_HELPER(user_ringbuf_drain);

// helpers_perf.cc
SKEP_HELPER(perf_event_read);
SKEP_HELPER(perf_event_output);
SKEP_HELPER(perf_event_read_value);

// helpers_dynptr.cc
SKEP_HELPER(dynptr_from_mem);
SKEP_HELPER(dynptr_read);
SKEP_HELPER(dynptr_write);
SKEP_HELPER(dynptr_data);

// kfuncs_task_work.cc
SKEP_HELPER(task_work_schedule);

// helpers_timer.cc
SKEP_HELPER(timer_init);
SKEP_HELPER(timer_set_callback);
SKEP_HELPER(timer_start);
SKEP_HELPER(timer_cancel);
SKEP_HELPER(wq_init);
SKEP_HELPER(wq_set_callback);
SKEP_HELPER(wq_start);

// helpers_text.cc
SKEP_HELPER(strncmp);
SKEP_HELPER(strtol);
SKEP_HELPER(strtoul);
SKEP_HELPER(snprintf);
SKEP_HELPER(trace_printk);
SKEP_HELPER(trace_vprintk);

// helpers_skb.cc
SKEP_HELPER(skb_load_bytes);
SKEP_HELPER(skb_load_bytes_relative);
SKEP_HELPER(skb_store_bytes);
SKEP_HELPER(skb_pull_data);
SKEP_HELPER(skb_change_type);
SKEP_HELPER(l3_csum_replace);
SKEP_HELPER(l4_csum_replace);
SKEP_HELPER(csum_diff);
SKEP_HELPER(csum_update);
SKEP_HELPER(set_hash);
SKEP_HELPER(set_hash_invalid);

// helpers_seq.cc
SKEP_HELPER(seq_printf);
SKEP_HELPER(seq_write);

// helpers_xdp.cc
SKEP_HELPER(xdp_load_bytes);
SKEP_HELPER(xdp_store_bytes);
SKEP_HELPER(xdp_get_buff_len);
SKEP_HELPER(xdp_adjust_head);
SKEP_HELPER(xdp_adjust_tail);
SKEP_HELPER(xdp_adjust_meta);

#undef SKEP_HELPER

/// A negative errno as helpers return it.
[[nodiscard]] constexpr uint64_t error_value(int error) { return static_cast<uint64_t>(-int64_t{error}); }
/// What a kernel function returns that is declared to return an int: 32 bits, the others are zero.
template <class T>
[[nodiscard]] constexpr uint64_t int_value(T result) {
  return static_cast<uint32_t>(result);
}
template <class T>
[[nodiscard]] T* memory(uint64_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace skep::helpers
