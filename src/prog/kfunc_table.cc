// SPDX-License-Identifier: Apache-2.0
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
    {kNoId, "rcu_read_lock", kEvery, true, {}, rcu_read_lock},
    {kNoId, "rcu_read_unlock", kEvery, true, {}, rcu_read_unlock},
};

/// The table's rows under the ids that they have in this kernel.
class Numbered {
 public:
  Numbered() {
    status_ = for_each_kernel_function([this](uint32_t id, std::string_view name) {
      if (!name.starts_with("bpf_")) return true;
      if (const Helper* row = find_kfunc(name.substr(4))) rows_.emplace_back(id, row);
      return true;
    });
  }

  [[nodiscard]] Result<const Helper*> find(uint32_t id) const {
    if (!status_) return std::unexpected(status_.error());
    const auto at = std::ranges::lower_bound(rows_, id, {}, &Row::first);
    return at != rows_.end() && at->first == id ? at->second : nullptr;
  }

 private:
  using Row = std::pair<uint32_t, const Helper*>;
  Status status_;
  std::vector<Row> rows_;  // ascending
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
    return fail_because(ENOENT,
                        "this host shows no BTF of its kernel (/sys/kernel/btf/vmlinux), in which the functions "
                        "that programs call by id would be found");
  }
  if (*found != nullptr) return found;
  const auto name = kernel_function(btf_id);
  if (!name) return fail_because(EINVAL, "kernel btf_id " + std::to_string(btf_id) + " is not a function");
  return fail_because(EACCES, "calling kernel function " + *name + " is not allowed");
}

}  // namespace skep
