// SPDX-License-Identifier: Apache-2.0
#include <skep/abi.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "btf/kernel_btf.h"
#include "prog/helpers.h"
#include "prog/kfunc.h"

namespace skep {
namespace {

using enum Argument;
using namespace helpers;

constexpr uint32_t kNoId = UINT32_MAX;

constexpr Helper kKfuncs[] = {
    {kNoId,
     "arena_alloc_pages",
     kEvery,
     true,
     {kMap, kAnything, kAnything, kAnything, kAnything},
     arena_alloc_pages,
     false,
     true},
    {kNoId, "arena_free_pages", kEvery, true, {kMap, kAnything, kAnything}, arena_free_pages, false, true},
    {kNoId, "arena_reserve_pages", kEvery, true, {kMap, kAnything, kAnything}, arena_reserve_pages, false, true},
    {kNoId, "rcu_read_lock", kEvery, true, {}, rcu_read_lock},
    {kNoId, "rcu_read_unlock", kEvery, true, {}, rcu_read_unlock},
    {kNoId, "wq_init", kEvery, true, {kWork, kMapOfField, kAnything}, wq_init},
    {kNoId, "wq_set_callback_impl", kEvery, true, {kWork, kFunction, kAnything}, wq_set_callback},
    {kNoId, "wq_start", kEvery, true, {kWork, kAnything}, wq_start},
    {kNoId,
     "task_work_schedule_signal_impl",
     kEvery,
     true,
     {kCurrentTask, kTaskWork, kMapOfField, kFunction},
     task_work_schedule},
    {kNoId,
     "task_work_schedule_resume_impl",
     kEvery,
     true,
     {kCurrentTask, kTaskWork, kMapOfField, kFunction},
     task_work_schedule},
    {kNoId, "task_from_pid", kTypedObjects, true, {kAnything}, task_from_pid},
    {kNoId, "task_from_vpid", kTypedObjects, true, {kAnything}, task_from_pid},
    {kNoId, "task_acquire", kTypedObjects, true, {kTask}, object_acquire},
    {kNoId, "task_release", kTypedObjects, true, {kOwnTask}, task_release},
    {kNoId, "cgroup_from_id", kTypedObjects, true, {kAnything}, cgroup_from_id},
    {kNoId, "cgroup_acquire", kTypedObjects, true, {kCgroup}, object_acquire},
    {kNoId, "cgroup_release", kTypedObjects, true, {kOwnCgroup}, cgroup_release},
    {kNoId, "cgroup_ancestor", kTypedObjects, true, {kCgroup, kAnything}, cgroup_ancestor},
    {kNoId, "res_spin_lock", kEvery, true, {kResilientLock}, res_spin_lock, true},
    {kNoId, "res_spin_unlock", kEvery, true, {kResilientLock}, res_spin_unlock, true},
    {kNoId, "res_spin_lock_irqsave", kEvery, true, {kResilientLock, kNumberOut}, res_spin_lock, true},
    {kNoId, "res_spin_unlock_irqrestore", kEvery, true, {kResilientLock, kNumberOut}, res_spin_unlock, true},
};

/// The table's rows under the ids that they have in this kernel.
class Numbered {
 public:
  Numbered() {
    const auto types = KernelBtf::read();
    if (!types) {
      status_ = std::unexpected(types.error());
      return;
    }
    for (const Helper& row : kKfuncs)
      rows_.emplace_back(types->find(BtfKind::kFunc, "bpf_" + std::string(row.name)), &row);
  }

  [[nodiscard]] Result<const Helper*> find(uint32_t id) const {
    if (!status_) return std::unexpected(status_.error());
    const auto at = std::ranges::find(rows_, id, &Row::first);
    return at != rows_.end() && id != 0 ? at->second : nullptr;
  }

 private:
  using Row = std::pair<uint32_t, const Helper*>;
  Status status_;
  std::vector<Row> rows_;  // 0: this kernel has no such function
};

}  // namespace

const Helper* find_kfunc(std::string_view name) {
  const auto* at = std::ranges::find(kKfuncs, name, &Helper::name);
  return at == std::end(kKfuncs) ? nullptr : at;
}

Result<const Helper*> kfunc_of(uint32_t btf_id) {
  static const Numbered numbered;
  const auto found = numbered.find(btf_id);
  if (!found) {
    return fail_because(SKEP_ENOTSUPP,  // as of a kernel that was built without types
                        "this host shows no BTF of its kernel (/sys/kernel/btf/vmlinux), in which the functions "
                        "that programs call by id would be found");
  }
  if (*found != nullptr) return found;
  const auto types = KernelBtf::read();
  if (!types || types->kind_of(btf_id) != BtfKind::kFunc) {
    return fail_because(EINVAL, "kernel btf_id " + std::to_string(btf_id) + " is not a function");
  }
  return fail_because(EACCES, "calling kernel function " + std::string(types->name(btf_id)) + " is not allowed");
}

}  // namespace skep
