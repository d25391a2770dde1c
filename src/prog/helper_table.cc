// SPDX-License-Identifier: Apache-2.0
#include <skep/abi.h>

#include <algorithm>
#include <iterator>

#include "prog/helper.h"
#include "prog/helpers.h"

namespace skep {
namespace {

using enum Argument;
using namespace helpers;

// Ascending by number.
constexpr Helper kHelpers[] = {
    {1, "map_lookup_elem", kEvery, false, {kMap, kMapKey}, map_lookup_elem},
    {2, "map_update_elem", kEvery, false, {kMap, kMapKey, kMapValue, kAnything}, map_update_elem},
    {3, "map_delete_elem", kEvery, false, {kMap, kMapKey}, map_delete_elem},
    {4, "probe_read", kTracing | kSyscall, true, {kWritable, kSizeOrZero, kAnything}, probe_read},
    {5, "ktime_get_ns", kEvery, false, {}, ktime_get_ns},
    {6, "trace_printk", kEvery, true, {kReadable, kSize, kAnything, kAnything, kAnything}, trace_printk},
    {7, "get_prandom_u32", kEvery, false, {}, get_prandom_u32},
    {8, "get_smp_processor_id", kEvery, false, {}, get_smp_processor_id},
    {9, "skb_store_bytes", kSched, false, {kContext, kAnything, kReadable, kSize, kAnything}, skb_store_bytes},
    {10, "l3_csum_replace", kSched, false, {kContext, kAnything, kAnything, kAnything, kAnything}, l3_csum_replace},
    {11, "l4_csum_replace", kSched, false, {kContext, kAnything, kAnything, kAnything, kAnything}, l4_csum_replace},
    {12, "tail_call", kEvery, false, {kContext, kMap, kAnything}, nullptr},  // Operation::kCallTail
    {14, "get_current_pid_tgid", kEvery, false, {}, get_current_pid_tgid},
    {15, "get_current_uid_gid", kEvery, false, {}, get_current_uid_gid},
    {16, "get_current_comm", kEvery, false, {kWritable, kSize}, get_current_comm},
    {22, "perf_event_read", kTracing | kSyscall, true, {kMap, kAnything}, perf_event_read},
    {23, "redirect", kSched | kXdp, false, {kAnything, kAnything}, redirect},
    {25, "perf_event_output", kEvery, true, {kContext, kMap, kAnything, kReadable, kSizeOrZero}, perf_event_output},
    {26, "skb_load_bytes", kSkb, false, {kContext, kAnything, kWritable, kSize}, skb_load_bytes},
    {27, "get_stackid", kTracing | kSyscall, true, {kContext, kMap, kAnything}, get_stackid},
    {28,
     "csum_diff",
     kSched | kXdp,
     false,
     {kReadableOrNull, kSizeOrZero, kReadableOrNull, kSizeOrZero, kAnything},
     csum_diff},
    {32, "skb_change_type", kSched, false, {kContext, kAnything}, skb_change_type},
    {33, "skb_under_cgroup", kSched, false, {kContext, kMap, kAnything}, skb_under_cgroup},
    {37, "current_task_under_cgroup", kEvery, false, {kMap, kAnything}, current_task_under_cgroup},
    {39, "skb_pull_data", kSched, false, {kContext, kAnything}, skb_pull_data},
    {40, "csum_update", kSched, false, {kContext, kAnything}, csum_update},
    {41, "set_hash_invalid", kSched, false, {kContext}, set_hash_invalid},
    {42, "get_numa_node_id", kEvery, false, {}, get_numa_node_id},
    {44, "xdp_adjust_head", kXdp, false, {kContext, kAnything}, xdp_adjust_head},
    {45, "probe_read_str", kTracing | kSyscall, true, {kWritable, kSizeOrZero, kAnything}, probe_read_str},
    {46, "get_socket_cookie", kSkb | kSyscall, false, {kContextOrSocket}, get_socket_cookie},
    {48, "set_hash", kSched, false, {kContext, kAnything}, set_hash},
    {51, "redirect_map", kXdp, false, {kMap, kAnything, kAnything}, redirect_map},
    {54, "xdp_adjust_meta", kXdp, false, {kContext, kAnything}, xdp_adjust_meta},
    {55,
     "perf_event_read_value",
     kTracing | kSyscall,
     true,
     {kMap, kAnything, kWritable, kSize},
     perf_event_read_value},
    {65, "xdp_adjust_tail", kXdp, false, {kContext, kAnything}, xdp_adjust_tail},
    {67, "get_stack", kTracing | kSyscall, true, {kContext, kWritable, kSizeOrZero, kAnything}, get_stack},
    {68,
     "skb_load_bytes_relative",
     kSkb,
     false,
     {kContext, kAnything, kWritable, kSize, kAnything},
     skb_load_bytes_relative},
    {87, "map_push_elem", kEvery, false, {kMap, kMapValue, kAnything}, map_push_elem},
    {88, "map_pop_elem", kEvery, false, {kMap, kMapValueOut}, map_pop_elem},
    {89, "map_peek_elem", kEvery, false, {kMap, kMapValueOut}, map_peek_elem},
    {93, "spin_lock", kEvery, false, {kLock}, spin_lock},
    {94, "spin_unlock", kEvery, false, {kLock}, spin_unlock, true},
    {105, "strtol", kEvery, false, {kReadable, kSize, kAnything, kNumberOut}, strtol},
    {106, "strtoul", kEvery, false, {kReadable, kSize, kAnything, kNumberOut}, strtoul},
    {107,
     "sk_storage_get",
     kSched | kCgroupSkb,
     false,
     {kMap, kSocketOrNull, kMapValueOrNull, kAnything},
     sk_storage_get},
    {108, "sk_storage_delete", kSched | kCgroupSkb, false, {kMap, kSocketOrNull}, sk_storage_delete},
    {112, "probe_read_user", kEvery, true, {kWritable, kSizeOrZero, kAnything}, probe_read},
    {113, "probe_read_kernel", kEvery, true, {kWritable, kSizeOrZero, kAnything}, probe_read},
    {114, "probe_read_user_str", kEvery, true, {kWritable, kSizeOrZero, kAnything}, probe_read_str},
    {115, "probe_read_kernel_str", kEvery, true, {kWritable, kSizeOrZero, kAnything}, probe_read_str},
    {118, "jiffies64", kEvery, false, {}, jiffies64},
    {125, "ktime_get_boot_ns", kEvery, false, {}, ktime_get_boot_ns},
    {126, "seq_printf", kIterator, true, {kAnything, kReadable, kSize, kReadableOrNull, kSizeOrZero}, seq_printf},
    {127, "seq_write", kIterator, true, {kAnything, kReadable, kSizeOrZero}, seq_write},
    {130, "ringbuf_output", kEvery, false, {kMap, kReadable, kSizeOrZero, kAnything}, ringbuf_output},
    {131, "ringbuf_reserve", kEvery, false, {kMap, kAnything, kAnything}, ringbuf_reserve},
    {132, "ringbuf_submit", kEvery, false, {kAnything, kAnything}, ringbuf_submit},
    {133, "ringbuf_discard", kEvery, false, {kAnything, kAnything}, ringbuf_discard},
    {134, "ringbuf_query", kEvery, false, {kMap, kAnything}, ringbuf_query},
    {148, "copy_from_user", kSyscall, false, {kWritable, kSizeOrZero, kAnything}, copy_from_user},
    {156, "task_storage_get", kEvery, false, {kMap, kTaskOrNull, kMapValueOrNull, kAnything}, task_storage_get},
    {157, "task_storage_delete", kEvery, false, {kMap, kTaskOrNull}, task_storage_delete},
    {158, "get_current_task_btf", kEvery, true, {}, get_current_task_btf},
    {160, "ktime_get_coarse_ns", kSkb | kXdp, false, {}, ktime_get_coarse_ns},
    {164, "for_each_map_elem", kEvery, false, {kMap, kFunction, kAnything, kAnything}, for_each_map_elem},
    {165,
     "snprintf",
     kEvery,
     true,
     {kWritableOrNull, kSizeOrZero, kText, kReadableOrNull, kSizeOrZero},
     helpers::snprintf},
    {169, "timer_init", kUntraced, false, {kTimer, kMapOfField, kAnything}, timer_init},
    {170, "timer_set_callback", kUntraced, false, {kTimer, kFunction}, timer_set_callback},
    {171, "timer_start", kUntraced, false, {kTimer, kAnything, kAnything}, timer_start},
    {172, "timer_cancel", kUntraced, false, {kTimer}, timer_cancel},
    {177, "trace_vprintk", kEvery, true, {kReadable, kSize, kReadableOrNull, kSizeOrZero}, trace_vprintk},
    {181, "loop", kEvery, false, {kAnything, kFunction, kAnything, kAnything}, loop},
    {182, "strncmp", kEvery, false, {kReadable, kSize, kText}, helpers::strncmp},
    {188, "xdp_get_buff_len", kXdp, false, {kContext}, xdp_get_buff_len},
    {189, "xdp_load_bytes", kXdp, false, {kContext, kAnything, kWritable, kSize}, xdp_load_bytes},
    {190, "xdp_store_bytes", kXdp, false, {kContext, kAnything, kReadable, kSize}, xdp_store_bytes},
    {195, "map_lookup_percpu_elem", kEvery, false, {kMap, kMapKey, kAnything}, map_lookup_percpu_elem},
    {197, "dynptr_from_mem", kEvery, false, {kAnything, kAnything, kAnything, kAnything}, dynptr_from_mem},
    {198, "ringbuf_reserve_dynptr", kEvery, false, {kMap, kAnything, kAnything, kAnything}, ringbuf_reserve_dynptr},
    {199, "ringbuf_submit_dynptr", kEvery, false, {kAnything, kAnything}, ringbuf_submit_dynptr},
    {200, "ringbuf_discard_dynptr", kEvery, false, {kAnything, kAnything}, ringbuf_discard_dynptr},
    {201, "dynptr_read", kEvery, false, {kWritable, kSizeOrZero, kAnything, kAnything, kAnything}, dynptr_read},
    {202, "dynptr_write", kEvery, false, {kAnything, kAnything, kReadable, kSizeOrZero, kAnything}, dynptr_write},
    {203, "dynptr_data", kEvery, false, {kAnything, kAnything, kAnything}, dynptr_data},
    {208, "ktime_get_tai_ns", kEvery, false, {}, ktime_get_tai_ns},
    {209, "user_ringbuf_drain", kEvery, false, {kMap, kFunction, kAnything, kAnything}, user_ringbuf_drain},
    {210, "cgrp_storage_get", kEvery, false, {kMap, kCgroupOrNull, kMapValueOrNull, kAnything}, cgrp_storage_get},
    {211, "cgrp_storage_delete", kEvery, false, {kMap, kCgroupOrNull}, cgrp_storage_delete},
};

constexpr bool ascending() {
  return std::ranges::adjacent_find(kHelpers, [](const Helper& a, const Helper& b) { return a.id >= b.id; }) ==
         std::end(kHelpers);
}
static_assert(ascending());

}  // namespace

const Helper* find_helper(uint32_t id) {
  const auto* found = std::ranges::lower_bound(kHelpers, id, {}, &Helper::id);
  return found != std::end(kHelpers) && found->id == id ? found : nullptr;
}

uint16_t helper_type_bit(uint32_t program_type) {
  switch (program_type) {
    case BPF_PROG_TYPE_SOCKET_FILTER:
      return kSocketFilter;
    case BPF_PROG_TYPE_KPROBE:
      return kKprobe;
    case BPF_PROG_TYPE_SCHED_CLS:
    case BPF_PROG_TYPE_SCHED_ACT:
      return kSched;
    case BPF_PROG_TYPE_TRACEPOINT:
      return kTracepoint;
    case BPF_PROG_TYPE_XDP:
      return kXdp;
    case BPF_PROG_TYPE_CGROUP_SKB:
      return kCgroupSkb;
    case BPF_PROG_TYPE_RAW_TRACEPOINT:
      return kRawTracepoint;
    case BPF_PROG_TYPE_SYSCALL:
      return kSyscall;
    case BPF_PROG_TYPE_TRACING:
      return kIterator;
    default:
      return 0;
  }
}

}  // namespace skep
