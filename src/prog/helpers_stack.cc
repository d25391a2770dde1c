// SPDX-License-Identifier: Apache-2.0
// bpf_get_stackid() and bpf_get_stack(): the stack of the thread that runs the program. What is the kernel's stack
// there has no counterpart here: without BPF_F_USER_STACK the answer is that of a kernel that finds none.
#include <array>
#include <cerrno>
#include <cstring>

#include "maps/scratch.h"
#include "maps/stack_trace_map.h"
#include "prog/helpers.h"
#include "prog/user_stack.h"

namespace skep::helpers {
namespace {

constexpr uint64_t kSkip = 0xff;            // BPF_F_SKIP_FIELD_MASK
constexpr uint64_t kUserStack = 1 << 8;     // BPF_F_USER_STACK
constexpr uint64_t kUserBuildId = 1 << 11;  // BPF_F_USER_BUILD_ID
constexpr uint32_t kMostFrames = StackTraceMap::kMostFrames;

/// At most kMostFrames addresses, of which the first are left out.
struct Stack {
  std::array<uint64_t, kMostFrames> all;
  uint32_t count = 0;
  uint32_t skipped = 0;
  [[nodiscard]] const uint64_t* addresses() const { return all.data() + skipped; }
  [[nodiscard]] uint32_t frames() const { return count - skipped; }
};

/// False: there is no frame behind those to skip; the kernel calls exactly all skipped a stack only where
/// `may_be_empty`.
bool take_stack(const Run& run, uint32_t skip, uint32_t most, bool may_be_empty, Stack& stack) {
  const uint32_t room = std::min(kMostFrames, skip + most);
  stack.count = user_stack(run.entry_frame(), stack.all.data(), room);
  stack.skipped = std::min(skip, stack.count);
  return stack.count > skip || (may_be_empty && stack.count == skip && stack.count > 0);
}

void write_frames(const Stack& stack, uint32_t count, bool build_ids, std::byte* to) {
  if (!build_ids) {
    std::memcpy(to, stack.addresses(), count * sizeof(uint64_t));
    return;
  }
  for (uint32_t i = 0; i < count; ++i) {
    const BuildIdFrame frame = build_id_of(stack.addresses()[i]);
    std::memcpy(to + i * sizeof frame, &frame, sizeof frame);
  }
}

}  // namespace

uint64_t get_stackid(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  const auto& binding = *memory<const MapBinding>(b);
  if (binding.map->spec().type != BPF_MAP_TYPE_STACK_TRACE) {
    run.stop(EINVAL, "bpf_get_stackid(): argument 2 is not a map of type STACK_TRACE");
    return 0;
  }
  auto& map = static_cast<StackTraceMap&>(*binding.map);
  if ((c & ~(kSkip | kUserStack | StackTraceMap::kFastCompare | StackTraceMap::kReuse)) != 0) {
    return error_value(EINVAL);
  }
  Stack stack;
  const auto skip = static_cast<uint32_t>(c & kSkip);
  if ((c & kUserStack) == 0 || !take_stack(run, skip, map.frames(), false, stack)) return error_value(EFAULT);
  const uint32_t count = std::min(stack.frames(), map.frames());
  Scratch value(binding.value_size);
  std::memset(value.data(), 0, binding.value_size);
  write_frames(stack, count, map.frame_size() == StackTraceMap::kBuildIdSize, value.data());
  const auto number = map.keep(run.lease(), stack.addresses(), count, value.data(), c);
  return number ? *number : error_value(to_int(number.error()));
}

uint64_t get_stack(Run& run, uint64_t, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  auto* const to = memory<std::byte>(b);
  const bool build_ids = (d & kUserBuildId) != 0;
  const uint32_t size = build_ids ? StackTraceMap::kBuildIdSize : StackTraceMap::kAddressSize;
  const auto refuse = [&](int error) {
    std::memset(to, 0, c);
    return error_value(error);
  };
  if ((d & ~(kSkip | kUserStack | kUserBuildId)) != 0) return refuse(EINVAL);
  if (build_ids && (d & kUserStack) == 0) return refuse(EINVAL);
  if (c % size != 0) return refuse(EINVAL);
  Stack stack;
  const auto room = static_cast<uint32_t>(std::min<uint64_t>(c / size, kMostFrames));
  const auto skip = static_cast<uint32_t>(d & kSkip);
  if ((d & kUserStack) == 0 || !take_stack(run, skip, std::max(room, 1U), true, stack)) return refuse(EFAULT);
  const uint32_t count = std::min(stack.frames(), room);
  write_frames(stack, count, build_ids, to);
  std::memset(to + uint64_t{count} * size, 0, c - uint64_t{count} * size);
  return uint64_t{count} * size;
}

}  // namespace skep::helpers
