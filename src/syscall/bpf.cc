// SPDX-License-Identifier: Apache-2.0
#include <skep/bpf.h>

#include <cerrno>
#include <cstring>

#include "machine/quiet_mutex.h"
#include "syscall/commands.h"
#include "syscall/element_attr.h"
#include "syscall/process.h"

namespace skep {
namespace {

using Command = Answer (*)(Caller&);
using ElementCommand = int (*)(Process&, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags);

template <ElementCommand kRun>
Answer on_element(Caller& caller) {
  const int result = kRun(caller.process, caller.attr.map_fd, caller.attr.key, caller.attr.value, caller.attr.flags);
  if (result < 0) return fail(-result);
  return result;
}

/// One row per command of bpf(2), in the order of its numbers. Bytes of the attr from `used` on must be zero.
struct Row {
  uint32_t used;
  Command run;                              // null: answers like a kernel that was built without it
  ElementCommand run_on_element = nullptr;  // the same for the commands on one element
};

template <ElementCommand kRun>
constexpr Row element_row(uint32_t used) {
  return {used, on_element<kRun>, kRun};
}

#define SKEP_END_OF(field) static_cast<uint32_t>(offsetof(bpf_attr, field) + sizeof(bpf_attr::field))
constexpr uint32_t kWholeAttr = sizeof(bpf_attr);
constexpr uint32_t kBatchEnd = static_cast<uint32_t>(offsetof(bpf_attr, batch.flags) + sizeof(bpf_attr{}.batch.flags));
constexpr uint32_t kTestEnd =
    static_cast<uint32_t>(offsetof(bpf_attr, test.batch_size) + sizeof(bpf_attr{}.test.batch_size));
constexpr uint32_t kInfoEnd = static_cast<uint32_t>(offsetof(bpf_attr, info.info) + sizeof(bpf_attr{}.info.info));
constexpr uint32_t kStatsEnd = sizeof(bpf_attr{}.enable_stats);
constexpr uint32_t kLinkCreateEnd = 60;  // the longest of the links' own parts
constexpr uint32_t kBindMapEnd = sizeof(bpf_attr{}.prog_bind_map);

constexpr Row kCommands[] = {
    /* MAP_CREATE                 */ {SKEP_END_OF(excl_prog_hash_size), map_create},
    /* MAP_LOOKUP_ELEM            */ element_row<map_lookup_elem>(SKEP_END_OF(flags)),
    /* MAP_UPDATE_ELEM            */ element_row<map_update_elem>(SKEP_END_OF(flags)),
    /* MAP_DELETE_ELEM            */ element_row<map_delete_elem>(SKEP_END_OF(key)),
    /* MAP_GET_NEXT_KEY           */ element_row<map_get_next_key>(SKEP_END_OF(next_key)),
    /* PROG_LOAD                  */ {SKEP_END_OF(keyring_id), prog_load},
    /* OBJ_PIN                    */ {SKEP_END_OF(path_fd), obj_pin},
    /* OBJ_GET                    */ {SKEP_END_OF(path_fd), obj_get},
    /* PROG_ATTACH                */ {kWholeAttr, nullptr},
    /* PROG_DETACH                */ {kWholeAttr, nullptr},
    /* PROG_TEST_RUN              */ {kTestEnd, prog_test_run},
    /* PROG_GET_NEXT_ID           */ {SKEP_END_OF(next_id), prog_get_next_id},
    /* MAP_GET_NEXT_ID            */ {SKEP_END_OF(next_id), map_get_next_id},
    /* PROG_GET_FD_BY_ID          */ {SKEP_END_OF(prog_id), prog_get_fd_by_id},
    /* MAP_GET_FD_BY_ID           */ {SKEP_END_OF(open_flags), map_get_fd_by_id},
    /* OBJ_GET_INFO_BY_FD         */ {kInfoEnd, obj_get_info_by_fd},
    /* PROG_QUERY                 */ {kWholeAttr, nullptr},
    /* RAW_TRACEPOINT_OPEN        */ {kWholeAttr, nullptr},
    /* BTF_LOAD                   */ {SKEP_END_OF(btf_token_fd), btf_load},
    /* BTF_GET_FD_BY_ID           */ {SKEP_END_OF(fd_by_id_token_fd), btf_get_fd_by_id},
    /* TASK_FD_QUERY              */ {kWholeAttr, nullptr},
    /* MAP_LOOKUP_AND_DELETE_ELEM */ element_row<map_lookup_and_delete_elem>(SKEP_END_OF(flags)),
    /* MAP_FREEZE                 */ {SKEP_END_OF(map_fd), map_freeze},
    /* BTF_GET_NEXT_ID            */ {SKEP_END_OF(next_id), btf_get_next_id},
    /* MAP_LOOKUP_BATCH           */ {kBatchEnd, map_lookup_batch},
    /* MAP_LOOKUP_AND_DELETE_BATCH*/ {kBatchEnd, map_lookup_and_delete_batch},
    /* MAP_UPDATE_BATCH           */ {kBatchEnd, map_update_batch},
    /* MAP_DELETE_BATCH           */ {kBatchEnd, map_delete_batch},
    /* LINK_CREATE                */ {kLinkCreateEnd, link_create},
    /* LINK_UPDATE                */ {sizeof(bpf_attr{}.link_update), link_update},
    /* LINK_GET_FD_BY_ID          */ {SKEP_END_OF(link_id), link_get_fd_by_id},
    /* LINK_GET_NEXT_ID           */ {SKEP_END_OF(next_id), link_get_next_id},
    /* ENABLE_STATS               */ {kStatsEnd, enable_stats},
    /* ITER_CREATE                */ {sizeof(bpf_attr{}.iter_create), iter_create},
    /* LINK_DETACH                */ {sizeof(bpf_attr{}.link_detach), link_detach},
    /* PROG_BIND_MAP              */ {kBindMapEnd, prog_bind_map},
    /* TOKEN_CREATE               */ {kWholeAttr, nullptr},
    /* PROG_STREAM_READ_BY_FD     */ {kWholeAttr, nullptr},
};
#undef SKEP_END_OF
constexpr int kCommandCount = sizeof kCommands / sizeof kCommands[0];
static_assert(kCommandCount == BPF_PROG_STREAM_READ_BY_FD + 1);

constexpr unsigned kLargestAttr = 4096;

/// Whether signal handlers may interrupt the command. They do not interrupt the others, as on the kernel: what these
/// allocate and lock is nothing for a handler to find half done.
bool is_long(const Row& row) {
  return row.run == prog_test_run || row.used == kBatchEnd || row.run_on_element != nullptr;
}

bool all_zero(const unsigned char* bytes, size_t size) {
  uint64_t any = 0;
  for (; size >= sizeof any; bytes += sizeof any, size -= sizeof any) {
    uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    any |= word;
  }
  for (; size > 0; ++bytes, --size) any |= *bytes;
  return any == 0;
}

/// An attr larger than skep's: what skep does not know must be zero.
int check_tail(uint64_t user_attr, unsigned size) {
  unsigned char tail[kLargestAttr];
  const size_t length = size - sizeof(bpf_attr);
  if (!read_user(tail, user_attr + sizeof(bpf_attr), length)) return EFAULT;
  return all_zero(tail, length) ? 0 : E2BIG;
}

/// Rules 3 and 5 of an attr that has all the fields of an element, and no more bytes than skep's, read in place.
[[gnu::always_inline]] inline int element_command(Process& process, const Row& row, uint64_t user_attr, unsigned size) {
  ElementAttr attr;
  if (!plausible_user_range(user_attr, size) || !read_element_attr(attr, user_attr)) return -EFAULT;
  if (size > kElementAttrEnd) {
    const UserZeros zeros = user_zeros(user_attr + kElementAttrEnd, size - kElementAttrEnd);
    if (zeros == UserZeros::kFault) return -EFAULT;
    if (zeros == UserZeros::kNo) return -EINVAL;
  }
  if ((row.used <= offsetof(bpf_attr, value) && attr.value != 0) ||
      (row.used <= offsetof(bpf_attr, flags) && attr.flags != 0))
    return -EINVAL;
  return row.run_on_element(process, attr.map_fd, attr.key, attr.value, attr.flags);
}

[[gnu::noinline]] int longer_element_command(Process& process, const Row& row, uint64_t user_attr, unsigned size) {
  return element_command(process, row, user_attr, size);
}

[[gnu::noinline]] int any_command(Process& process, int cmd, uint64_t address, unsigned int size);

}  // namespace

int bpf(Process& process, int cmd, bpf_attr* user_attr, unsigned int size) {
  const auto address = reinterpret_cast<uint64_t>(user_attr);
  if (static_cast<unsigned>(cmd) < kCommandCount && kCommands[cmd].run_on_element != nullptr &&
      size >= kElementAttrEnd && size <= sizeof(bpf_attr)) [[likely]] {
    if (size == kElementAttrEnd) [[likely]]
      return element_command(process, kCommands[cmd], address, kElementAttrEnd);
    return longer_element_command(process, kCommands[cmd], address, size);
  }
  const int saved_errno = errno;  // a system call that succeeds leaves it alone
  const int answer = any_command(process, cmd, address, size);
  errno = saved_errno;
  return answer;
}

namespace {

int any_command(Process& process, int cmd, uint64_t address, unsigned int size) {
  clear_last_error();
  if (size > kLargestAttr) return -E2BIG;
  if (size > sizeof(bpf_attr)) {
    if (const int error = check_tail(address, size); error != 0) return -error;
    size = sizeof(bpf_attr);
  }
  bpf_attr attr;
  if (!read_user(&attr, address, size)) return -EFAULT;
  auto* bytes = reinterpret_cast<unsigned char*>(&attr);

  if (cmd < 0 || cmd >= kCommandCount) return -EINVAL;
  const Row& row = kCommands[cmd];
  if (row.run == nullptr || (size > row.used && !all_zero(bytes + row.used, size - row.used))) return -EINVAL;
  if (size < row.used) std::memset(bytes + size, 0, row.used - size);
  Caller caller{process, attr, address, size};
  if (is_long(row)) return to_result(row.run(caller));
  const QuietSection quiet;
  return to_result(row.run(caller));
}

}  // namespace
}  // namespace skep

extern "C" {

__attribute__((visibility("default"))) int skep_bpf(int cmd, union bpf_attr* attr, unsigned int size) {
  skep::Process* process = skep::default_process();
  const int answer = process == nullptr ? -ENOSYS : skep::bpf(*process, cmd, attr, size);
  if (answer >= 0) [[likely]]
    return answer;
  errno = -answer;
  return -1;
}

__attribute__((visibility("default"))) const char* skep_last_error(void) { return skep::last_error_sentence(); }
}
