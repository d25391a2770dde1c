// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/map.h>
#include <skep/error.hpp>
#include <skep/instance.hpp>

#include <atomic>
#include <cstdint>
#include <utility>

namespace skep {
inline namespace v0 {

/// Whose storage is meant: a number for an application's object, to be copied, stored and given to programs and to
/// other processes. It keeps nothing alive; once the object is gone it names nothing, for good.
struct OwnerReference {
  uint64_t value = 0;  // what programs pass to bpf_task_storage_get() in the task's place; 0 names nothing
  explicit operator bool() const { return value != 0; }
  friend bool operator==(OwnerReference, OwnerReference) = default;
};

/// The calling thread, for TaskStorage: what bpf_get_current_task_btf() is to programs.
inline constexpr OwnerReference current_task{SKEP_CURRENT_TASK};

/// Makes the C++ object that it is a member of an owner of local storage: a connection, a request, a session. Nothing
/// is allocated before its first value is; what it has in storage maps goes when it is destroyed, or when its process
/// ends, however that happens. Destruction costs its own values only.
///
/// Its members may be called by any thread, but for moving and destruction. Other threads that may outlive it use its
/// reference. After fork(2) the child's copy names the parent's object, and destroys nothing.
class Owner {
 public:
  explicit Owner(const Instance& instance) : instance_(skep_instance_share(instance.handle())) {}
  Owner(Owner&& other) noexcept
      : instance_(std::exchange(other.instance_, nullptr)),
        reference_(other.reference_.exchange(0, std::memory_order_relaxed)) {}
  Owner& operator=(Owner&& other) noexcept {
    if (this != &other) {
      release();
      skep_instance_close(instance_);
      instance_ = std::exchange(other.instance_, nullptr);
      reference_.store(other.reference_.exchange(0, std::memory_order_relaxed), std::memory_order_relaxed);
    }
    return *this;
  }
  ~Owner() {
    release();
    skep_instance_close(instance_);
  }

  /// What names it; 0 as long as it has never been attached.
  [[nodiscard]] OwnerReference reference() const { return {reference_.load(std::memory_order_acquire)}; }
  /// The same, made an owner if it is none yet: before a program is to give it storage. ENOMEM.
  Expected<OwnerReference> attach() {
    if (const int result = try_attach(); result < 0) {
      return detail::explained_failure(-result, "cannot make an owner of local storage");
    }
    return reference();
  }
  /// Frees what it has; it may be given other values afterwards, under another reference.
  void release() {
    const uint64_t owned = reference_.exchange(0, std::memory_order_acq_rel);
    if (owned != 0) skep_owner_destroy(instance_, owned);
  }

  /// attach() for the maps: 0 or -errno.
  int try_attach() {
    if (reference()) return 0;
    uint64_t made = 0;
    if (const int result = skep_owner_make(instance_, &made); result < 0) return result;
    uint64_t none = 0;
    // Of two threads that come at once one's stays.
    if (!reference_.compare_exchange_strong(none, made, std::memory_order_acq_rel)) skep_owner_destroy(instance_, made);
    return 0;
  }

 private:
  skep_instance* instance_;  // null: moved from
  std::atomic<uint64_t> reference_{0};
};

}  // namespace v0
}  // namespace skep
