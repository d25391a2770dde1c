// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "machine/machine.h"
#include "machine/quiet_mutex.h"
#include "memory/file_header.h"
#include "memory/result.h"
#include "object/stats_switch.h"

namespace skep {

/// A descriptor of this process, closed by the destructor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();
  [[nodiscard]] int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_ = -1;
};

/// A skep instance: the directory in which objects are files (design decision 1). Knows files, not what is in them.
///
///   <dir>/machine          the machine segment
///   <dir>/bpf-map/<id>     one file per map; likewise bpf-prog, btf, bpf-link
///   <dir>/holds/<kind>-<id>/<kind>-<id>   hard links: what the first object keeps alive
///   <dir>/pins/...         hard links: what clients see as /sys/fs/bpf
///   <dir>/perf-event/<id>  one file per perf event that skep stands in for
///   <dir>/bells/<id>       FIFOs that wake who waits for the ring buffer of that id; made when somebody first waits
///   <dir>/bells/event-<id> likewise for perf events
///   <dir>/trace            what programs print (bpf_trace_printk)
///
/// A *reference* is a shared flock on an open file description; an object is dead when nobody has one and its id is
/// its only link. Whoever notices removes it, together with its holds.
///
/// Invariants
///   1. An object file that has a name is complete, and was referenced from before it had one.
///   2. Who removes an object holds its exclusive flock and has seen st_nlink == 1 under it. A reference is the shared
///      flock, and nobody links a file without one, so st_nlink cannot grow while the remover looks.
///   3. Who opens an object by id owns it only after it has the shared flock *and* has then seen st_nlink != 0.
///   4. Holds are removed before the name of their holder: a remover that dies in between leaves a dead object that
///      the next comer removes, never a hold without a holder.
/// Any thread and process; nothing here keeps a descriptor open but the directory's.
class Instance {
 public:
  /// The directory that SKEP_DIR names, else /dev/shm/skep-$UID.
  static std::string default_directory();
  /// Opens the instance, making the directory (mode 0700) and what belongs in it where it is missing. EACCES: the
  /// directory belongs to somebody else; other errors as open(2) and mkdir(2) give them, with a sentence.
  static Result<std::shared_ptr<Instance>> open(const std::string& directory);
  ~Instance();

  [[nodiscard]] Machine& machine() const { return *machine_; }
  [[nodiscard]] const std::string& directory() const { return directory_; }
  /// A descriptor of the instance directory that stays valid as long as the instance; reopened if it was closed.
  [[nodiscard]] int directory_fd() const;

  // -- objects ------------------------------------------------------------------------------------------------------
  /// An unnamed file (O_TMPFILE) in the directory of `kind`, close-on-exec, already referenced. ENOMEM when full.
  Result<FileDescriptor> make_file(ObjectKind kind);
  /// Gives the file the next free id: `store_id(id)` writes it into the content, then the file gets its name and the
  /// object is visible to everybody, complete. Returns the id.
  Result<uint32_t> publish(ObjectKind kind, int fd, const std::function<void(uint32_t)>& store_id);
  /// A new open file description of a living object, referenced. `flags`: O_RDWR, O_RDONLY or O_WRONLY. ENOENT: no such
  /// object or a dead one (which is collected on the way).
  Result<FileDescriptor> open_by_id(ObjectKind kind, uint32_t id, int flags);
  /// Whether there is such an object and somebody keeps it; one that nobody keeps is collected on the way.
  bool alive(ObjectKind kind, uint32_t id);
  /// The smallest living id greater than `after`; ENOENT when there is none. Collects the dead it meets.
  Result<uint32_t> next_id(ObjectKind kind, uint32_t after);
  /// Removes the object if it is dead, and what it alone held; called by those who drop the last reference they know
  /// of.
  void collect(ObjectKind kind, uint32_t id);
  /// Removes every dead object: at opening, and by those who found the file system full.
  void collect_dead();
  /// A living map that `wanted(fd)` accepts, of which no client has a descriptor or a pin, so that only holders keep
  /// it; with its exclusive flock: nobody becomes a user while the descriptor is open. ENOENT otherwise.
  Result<FileDescriptor> open_unused_map(uint32_t id, bool (*wanted)(int fd));
  /// Whether some client has a descriptor or a pin of the map. Three system calls where one has a descriptor.
  [[nodiscard]] bool map_has_users(uint32_t id) const;
  /// Calls `visit(id)` for the maps that were without a reference when the instance was opened, and yet alive.
  void visit_unused(const std::function<void(uint32_t id)>& visit);

  // -- run-time statistics ------------------------------------------------------------------------------------------
  /// Whether anybody holds a descriptor of enable_stats(). One load while nobody does.
  [[nodiscard]] bool stats_enabled() { return stats_->maybe_enabled() && stats_->enabled(directory_fd()); }
  /// A descriptor that keeps run-time statistics on while it, or a duplicate, is open.
  Result<FileDescriptor> enable_stats() { return stats_->enable(directory_fd()); }

  // -- holds --------------------------------------------------------------------------------------------------------
  /// Makes `holder` keep `held` (open as `held_fd`) alive until the holder dies; idempotent.
  Status hold(ObjectKind holder_kind, uint32_t holder, ObjectKind held_kind, uint32_t held, int held_fd);

  // -- pins ---------------------------------------------------------------------------------------------------------
  /// The pin directory: what clients see as /sys/fs/bpf.
  [[nodiscard]] std::string pin_directory() const { return directory_ + "/pins"; }
  /// Where clients believe that directory to be.
  static constexpr std::string_view kClientPinDirectory = "/sys/fs/bpf";
  /// Turns a client's path (absolute below /sys/fs/bpf, or below pin_directory(), or relative to `path_fd`) into one
  /// inside the pin directory. EPERM: it is on another file system; ENOENT / ENOTDIR as path lookup gives them.
  Result<std::string> resolve_pin_path(int path_fd, std::string_view path) const;
  /// Gives the object behind `fd` one more name. EEXIST, ENOENT, ENOTDIR as link(2); EPERM: a '.' in the name.
  Status pin(int fd, const std::string& resolved_path);
  /// A new referenced description of the pinned object. EACCES: not an object, or its mode denies `flags`; other errors
  /// as open(2).
  Result<FileDescriptor> open_pin(const std::string& resolved_path, int flags);

  /// Which kind of object an arbitrary descriptor is. EBADF: not open (or O_PATH); EINVAL: something else, or an object
  /// of another instance (with a sentence).
  Result<FileHeader> identify(int fd) const;

  /// The same file as `fd`, open with `flags` in a description of its own that is *not* a reference.
  static Result<FileDescriptor> reopen(int fd, int flags);

 private:
  Instance() = default;
  Result<int> open_directory() const;
  Status make_directories() const;
  [[nodiscard]] FileDescriptor open_object(ObjectKind kind, uint32_t id, int flags) const;
  /// Removes one object if it is dead, appending to `next` what it held.
  void collect_one(ObjectKind kind, uint32_t id, std::vector<std::pair<ObjectKind, uint32_t>>& next);
  /// `fd` has the exclusive flock and one link: removes it.
  void remove_dead(ObjectKind kind, uint32_t id, std::vector<std::pair<ObjectKind, uint32_t>>& next);
  void drop_holds(const char* holder_name, std::vector<std::pair<ObjectKind, uint32_t>>& next);
  void drop_orphaned_holds(std::vector<std::pair<ObjectKind, uint32_t>>& next);
  void collect_all(std::vector<std::pair<ObjectKind, uint32_t>>& pending);
  [[nodiscard]] nlink_t count_holders(ObjectKind kind, uint32_t id) const;

  std::string directory_;
  bool opening_ = true;
  std::vector<uint32_t> unused_maps_;  // written while the instance is opened, taken by visit_unused()
  dev_t device_ = 0;
  ino_t inode_ = 0;
  mutable QuietMutex reopening_;
  mutable std::atomic<int> directory_fd_{-1};
  std::shared_ptr<Machine> machine_;
  std::unique_ptr<StatsSwitch> stats_;
};

}  // namespace skep
