// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "machine/quiet_mutex.h"
#include "maps/map.h"
#include "memory/result.h"
#include "object/instance.h"

namespace skep {

struct Process;
struct ReferenceKind;

/// What this process keeps of an object that is not a map: a decoded program, parsed BTF. Derived from by those kinds.
class ObjectFace {
 public:
  virtual ~ObjectFace() = default;
};

/// One descriptor of this process as the commands see it. Constant once published, except for what it points to.
struct alignas(64) OpenObject : std::enable_shared_from_this<OpenObject> {
  // What the element commands need, in one cache line; of a map, copies of constants.
  ObjectKind kind = ObjectKind::kMap;
  bool readable = false;   // the descriptor is O_RDONLY or O_RDWR
  bool writable = false;   // the descriptor is O_WRONLY or O_RDWR
  bool plain_map = false;  // a map whose values are bytes
  bool has_spin_lock = false;
  uint32_t key_size = 0;
  uint32_t type = 0;  // BPF_MAP_TYPE_*
  uint64_t user_value_size = 0;
  std::shared_ptr<Map> map;                       // kind == kMap
  const std::atomic<uint32_t>* frozen = nullptr;  // the map's

  bool keyless = false;
  bool storage = false;                       // a StorageMap
  const ReferenceKind* references = nullptr;  // a map whose values are not bytes: what they are
  std::shared_ptr<ObjectFace> face;           // every other kind
  uint32_t id = 0;
  dev_t device = 0;
  ino_t inode = 0;

 private:
  friend class FdTable;
  std::shared_ptr<OpenObject> published_;  // itself while it stands in the table, which owns it so
};

/// Which object each descriptor of this process is.
///
/// What it is
///   A cache in front of fstat(2) and the object's header: descriptor number -> OpenObject. The descriptor itself is an
///   ordinary one of the process; the table holds neither it nor a reference to the object. Its mappings come from
///   descriptions of their own without a flock, so that the client's last close(2) kills the object at once, also where
///   the table does not see it.
///
/// Layout
///   chunks_[fd / 1024] -> 1024 x atomic<OpenObject*>      (chunks never move and never go; null: not known)
///   The first chunk, where nearly all descriptors are, is part of the table.
///
/// Operations
///   find      two loads; trusted: that is all; else fstat(2) and F_GETFL must agree with the entry
///   share     the same, owning
///   install   publishes the object of a descriptor that a command made
///   closing / closed   bracket a close(2) of which the table is told
///
/// Invariants
///   1. A published OpenObject is constant and lives until a grace period after it was taken out of its entry.
///   2. In trusted mode an entry is taken out before its descriptor is closed (closing()), and nothing is put in that
///      was opened while any close was under way; so no entry outlives its descriptor.
///   3. All descriptors of one map in this process share one Map.
///
/// Ordering
///   1. The release store of an entry pairs with the acquire load in known(): a found object is complete.
///   2. The entry's removal precedes Machine::defer, whose grace period covers every find() that still saw it.
///   3. An Addition stores adding_, then loads closes_under_way_; closing() counts itself, then loads adding_. All four
///      are seq_cst: either the addition sees the close and puts nothing in, or the close sees the addition and waits
///      for mutex_, or the addition is over and the close sees the entry (adding_ is cleared with release).
///
/// Progress    find, and the close of what is no object while nothing is added: wait-free. Everything else: one mutex,
///             under which files are opened and mapped.
/// Signals     A handler may close descriptors: the mutex is quiet, and so is the close of an object for all of its
///             Closing. That of an object allocates memory, so it must not interrupt malloc(3) itself.
/// Reclamation Machine::defer after the entry was taken out; readers are inside a ReaderSection. The deferred runs when
///             the next descriptor is installed, or its close reported.
/// Locks       mutex_ before every lock of the machine; held across fork(2), so that the child inherits a whole table.
class FdTable {
 public:
  /// Has fork(2) keep all tables whole. Implied by making one; called where the order of registrations counts.
  static void watch_forks();

  explicit FdTable(Process& process);
  FdTable(const FdTable&) = delete;
  FdTable& operator=(const FdTable&) = delete;
  ~FdTable();

  /// The object behind `fd`. The caller is inside a ReaderSection (or holds a lease), to whose end the pointer is
  /// valid. EBADF: not open (or O_PATH); EINVAL: something else than an object of this instance.
  Result<const OpenObject*> find(int fd) {
    if (const OpenObject* object = believed(fd)) [[likely]]
      return object;
    return find_with_care(fd);
  }
  /// What find() answers where that takes no system call, else null.
  [[nodiscard]] const OpenObject* believed(int fd) const {
    return trusted_.load(std::memory_order_relaxed) ? known(fd) : nullptr;
  }
  /// The same for commands that last: valid as long as the pointer is kept. No ReaderSection needed.
  Result<std::shared_ptr<const OpenObject>> share(int fd);
  /// share() and the kind: EINVAL when it is another.
  Result<std::shared_ptr<const OpenObject>> share(int fd, ObjectKind kind);

  /// Opens and publishes the object behind a descriptor that a command just made, and gives the descriptor away: its
  /// number. On an error it is closed.
  Result<int> install(FileDescriptor fd);
  /// The same for a new map whose windows are mapped already (from a description that is no reference).
  Result<int> install(FileDescriptor fd, std::unique_ptr<Map> map);

  /// The one Map of this process over the map `id` (which somebody keeps alive), without a descriptor: programs use it
  /// for the maps they hold. ENOENT: there is no such map (any more).
  Result<std::shared_ptr<Map>> map_by_id(uint32_t id);

  /// The one Map of this process over the file behind `fd`, whose description need be no reference.
  Result<std::shared_ptr<Map>> map_of(int fd);

  /// From now on closes are reported, and entries are believed without a system call.
  void trust() { trusted_.store(true, std::memory_order_relaxed); }
  /// Lives while close(2), dup2(2), close_range(2) ends the numbers first..last in trusted mode; then collects the
  /// objects that died with them. Cheap for numbers that are no objects. Without a table it does nothing. Keeps errno.
  class Closing {
   public:
    Closing(FdTable* table, unsigned first, unsigned last)
        : table_(table), first_(first), last_(last), objects_(table != nullptr && table->closing(first, last)) {}
    Closing(const Closing&) = delete;
    Closing& operator=(const Closing&) = delete;
    ~Closing() {
      if (table_ != nullptr) table_->closed(first_, last_, objects_);
    }

   private:
    FdTable* table_;
    unsigned first_, last_;
    bool objects_;
  };

 private:
  static constexpr unsigned kChunkSize = 1024;
  static constexpr unsigned kChunks = 1024;  // descriptors beyond are looked up anew at each call
  struct Chunk {
    std::atomic<OpenObject*> entries[kChunkSize];
  };
  struct Dying {
    unsigned fd;
    ObjectKind kind;
    uint32_t id;
    bool ends_with_users;  // a map that loses something with its last user
    bool ends_with_file;   // a map whose entries go with the description that they were made through
  };

  [[nodiscard]] OpenObject* known(int fd) const {
    const auto number = static_cast<unsigned>(fd);
    if (number < kChunkSize) [[likely]]
      return first_chunk_.entries[number].load(std::memory_order_acquire);
    if (number >= kChunks * kChunkSize) return nullptr;
    // Pairs with the release stores in put().
    const Chunk* chunk = chunks_[number / kChunkSize].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : chunk->entries[number % kChunkSize].load(std::memory_order_acquire);
  }
  /// Whether there are objects among the numbers: then the thread is in a QuietSection until it tells closed() so.
  [[nodiscard]] bool closing(unsigned first, unsigned last);
  void closed(unsigned first, unsigned last, bool objects);
  [[nodiscard]] bool any_known(unsigned first, unsigned last) const;
  Result<const OpenObject*> find_with_care(int fd);
  static bool agrees(const OpenObject& object, int fd);
  Result<std::shared_ptr<OpenObject>> find_slowly(int fd);
  // All below: mutex_ is held.
  class Addition;
  Result<std::shared_ptr<OpenObject>> open(int fd);
  Result<std::shared_ptr<Map>> map_of_file(int fd, const struct stat& info, bool client_writes);
  void remember(ino_t inode, const std::shared_ptr<Map>& map);
  void describe_map(OpenObject& object, std::shared_ptr<Map> map) const;
  void put(unsigned fd, const std::shared_ptr<OpenObject>& object);
  void take_out(std::atomic<OpenObject*>& entry);
  void take_out_stale(std::atomic<OpenObject*>& entry);

  static void before_fork();
  static void after_fork(bool child);

  Process& process_;
  Instance& instance_;
  std::atomic<bool> trusted_{false};
  Chunk first_chunk_{};
  std::atomic<Chunk*> chunks_[kChunks] = {};
  std::atomic<uint32_t> closes_under_way_{0};  // changed by any thread, without a lock
  std::atomic<bool> adding_{false};            // written by the holder of mutex_
  QuietMutex mutex_;
  // Guarded by mutex_:
  std::unordered_map<ino_t, std::weak_ptr<Map>> maps_;
  size_t maps_swept_at_ = 64;
  bool may_put_ = false;  // of the Addition
  std::vector<Dying> dying_;
};

}  // namespace skep
