// SPDX-License-Identifier: Apache-2.0
#include "storage/current_task.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "storage/owner_source.h"

namespace skep {
namespace detail {

constinit thread_local CurrentTask t_current_task;

namespace {

struct Known {
  std::weak_ptr<Owners> owners;
  OwnerNumber number;
};

/// What the thread is to each instance that it has been an owner of.
class ThreadOwners {
 public:
  ThreadOwners() = default;
  ThreadOwners(const ThreadOwners&) = delete;
  ThreadOwners& operator=(const ThreadOwners&) = delete;
  ~ThreadOwners() {
    t_current_task = {};
    if (::getpid() == process_ && static_cast<pid_t>(::syscall(SYS_gettid)) == process_) return;
    if (::getpid() != process_) return;  // they are the parent's
    for (const Known& known : known_) {
      const auto owners = known.owners.lock();
      if (owners == nullptr) continue;
      const Lease lease(owners->machine());
      static_cast<void>(owners->destroy(lease, known.number));
    }
  }
  void add(const std::shared_ptr<Owners>& owners, OwnerNumber number) {
    if (::getpid() != process_) known_.clear();
    process_ = ::getpid();
    std::erase_if(known_, [](const Known& known) { return known.owners.expired(); });
    known_.push_back({owners, number});
  }

 private:
  pid_t process_ = 0;
  std::vector<Known> known_;
};

thread_local ThreadOwners t_thread_owners;

}  // namespace

Result<Owner> find_current_task_slowly(const Lease& lease, Owners& owners, bool make) {
  [[maybe_unused]] static const int forked = ::pthread_atfork(nullptr, nullptr, [] { t_current_task = CurrentTask{}; });
  const auto thread = static_cast<pid_t>(::syscall(SYS_gettid));
  const auto identity = resolve_thread(thread);
  if (!identity) return std::unexpected(identity.error());
  Owner owner = owners.find(*identity);
  if (!owner) {
    if (!make) return Owner{};
    const OwnerTrace trace = trace_thread(thread);
    const auto made = owners.find_or_make(lease, *identity, &trace);
    if (!made) return made;
    owner = *made;
  }
  t_thread_owners.add(owners.shared_from_this(), owner.number);
  t_current_task = {.owners = &owners, .owner = owner};
  return owner;
}

}  // namespace detail
}  // namespace skep
