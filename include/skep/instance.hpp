// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/map.h>
#include <skep/error.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace skep {
inline namespace v0 {

/// A skep instance, open in this process: the directory in which maps are files. Processes of one user that open the
/// same directory share its maps, and bpftool under `skep run` sees them. Thread-safe; maps outlive it.
class Instance {
 public:
  /// Opens `directory` (empty: $SKEP_DIR, else /dev/shm/skep-$UID), making it where it is missing. EACCES: it belongs
  /// to somebody else; ENOMEM: its file system is full; EINVAL: it was made by another version of skep.
  static Expected<Instance> open(const std::string& directory = {}) {
    skep_instance* handle = nullptr;
    if (const int result = skep_instance_open(directory.empty() ? nullptr : directory.c_str(), &handle); result < 0) {
      return detail::explained_failure(-result, "cannot open the skep instance " + directory);
    }
    return Instance(handle);
  }

  /// CPUs of this host: per-CPU values have this many parts.
  [[nodiscard]] uint32_t cpus() const { return skep_instance_cpus(handle_.get()); }

  [[nodiscard]] skep_instance* handle() const { return handle_.get(); }

 private:
  struct Closer {
    void operator()(skep_instance* handle) const { skep_instance_close(handle); }
  };
  explicit Instance(skep_instance* handle) : handle_(handle) {}
  std::unique_ptr<skep_instance, Closer> handle_;
};

}  // namespace v0
}  // namespace skep
