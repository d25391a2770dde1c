// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "machine/lease.h"
#include "machine/machine.h"
#include "maps/map_spec.h"
#include "memory/file_header.h"
#include "memory/result.h"
#include "memory/segment.h"

namespace skep {

/// What the values of a kind are. Other than bytes: numbers that stand for something outside the map. The kind stores a
/// 64-bit word per entry and knows nothing of its meaning; the syscall side makes words of what clients give and shows
/// them (syscall/reference_kinds.h), and keeps alive what they stand for.
/// kOwned are bytes, of a map whose keys are descriptors of owners: a StorageMap (storage_map.h).
enum class ValueMeaning : uint8_t {
  kBytes,
  kMap,
  kProgram,
  kPerfEvent,
  kCgroup,
  kDevice,
  kCpu,
  kSocket,
  kInstruction,
  kOwned
};

/// What a map of maps asks of the maps in it: those of a map that was given when it was made.
struct InnerTemplate {
  uint32_t type;  // BPF_MAP_TYPE_*; 0: not a map of maps
  uint32_t key_size;
  uint32_t value_size;
  uint32_t max_entries;
  uint32_t flags;
  ValueFields fields;
};

/// The header of a map segment, at kHeaderOffset of its file. A kind's own control data begins at kControlOffset of
/// the private window.
struct MapHeader {
  FileHeader file;
  MapSpec spec;
  MachineShape shape;  // that the per-slot and per-CPU parts were laid out with; a machine of another shape is refused
  char name[16];
  uint32_t btf_id;  // 0: none
  uint32_t btf_key_type;
  uint32_t btf_value_type;
  uint32_t created_by_uid;
  uint64_t hash_seed[4];         // zeros under BPF_F_ZERO_SEED
  uint64_t memory;               // bytes reserved at creation ("memlock" in fdinfo)
  std::atomic<uint32_t> frozen;  // 1: no more writes from the syscall side; set once (BPF_MAP_FREEZE)
  std::atomic<uint32_t>
      changing;  // reference maps: changes under way, or left by dead processes (syscall/reference_store.h)
  std::atomic<uint64_t> owner;       // maps of programs: what every program in it must be like; 0: none yet
  InnerTemplate inner;               // maps of maps: what every map in it must be like; constant
  std::atomic<uint32_t> insertions;  // maps of perf events: how many there were (syscall/perf_event_entries.h)
};
inline constexpr uint64_t kControlOffset = 1024;
static_assert(sizeof(MapHeader) <= kControlOffset);

/// How large a map's file is and what of it must exist before the map does.
struct MapLayout {
  uint64_t user_size = 0;     // user-visible bytes at offset 0, 0 for most kinds
  uint64_t private_size = 0;  // header and control data; kControlOffset included
  struct Range {
    uint64_t offset = 0, length = 0;
  };
  bool reserve_user = false;  // reserve all of the user area at creation
  Range reserve[2] = {};      // parts of the private window to reserve at creation
};

/// Both windows of a mapped map. `user` has no data where user_size is 0.
/// The user window is mapped one page longer than user_size: that is how skep's own mapping is told from a client's.
struct MapSegments {
  Segment user;
  Segment control;
  [[nodiscard]] MapHeader& header() const { return *reinterpret_cast<MapHeader*>(control.data()); }
};

/// Receives the elements of a batch or an iteration in runs; false stops the walk after this run (EFAULT).
/// Keys stand key_size apart; values user_value_size() apart.
class BatchSink {
 public:
  virtual bool put(const void* keys, const void* values, uint32_t count) = 0;

 protected:
  ~BatchSink() = default;
};

struct BatchResult {
  uint32_t count = 0;  // elements delivered; meaningful also with an error
  int error = 0;       // 0, ENOENT (end reached), ENOSPC (next bucket does not fit and count is 0), EFAULT, ...
  bool cursor_written = false;
};

/// What an element visitor tells a walk.
enum class Visit { kContinue, kStop };

/// What a structural check found; `problem` is empty when every invariant holds.
struct CheckReport {
  uint64_t elements = 0;       // live elements
  uint64_t free_elements = 0;  // elements available for new keys
  std::string problem;
};

/// The face of one map in this process: stateless beside the two windows, so that any number of threads may use one,
/// and any number of processes have one each. A kind knows nothing of descriptors, system calls or BTF text.
///
/// Callers pass buffers of their own (never another program's unchecked pointers): `key` has key_size bytes (null where
/// key_size is 0), `value` user_value_size() bytes on the syscall side and value_size on a program's side.
///
/// Two kinds of reading: *copying* ones (const, no lease) write nothing shared, work on a read-only window and are
/// never torn; *pointer* ones (find) need a lease and give what a program gets from bpf_map_lookup_elem().
/// All mutations need a lease and a writable window. Errors are those of Linux 6.18 for the kind.
class Map {
 public:
  Map(MapSegments segments, Machine& machine) : segments_(std::move(segments)), machine_(machine) {}
  virtual ~Map() = default;
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;

  [[nodiscard]] MapHeader& header() const { return segments_.header(); }
  [[nodiscard]] const MapSpec& spec() const { return header().spec; }
  [[nodiscard]] Machine& machine() const { return machine_; }
  [[nodiscard]] const MapSegments& segments() const { return segments_; }

  /// Bytes that one value has on the syscall side: round_up(value_size, 8) * cpus for the per-CPU kinds.
  [[nodiscard]] virtual uint64_t user_value_size() const { return spec().value_size; }

  // -- copying reads ------------------------------------------------------------------------------------------------
  /// BPF_MAP_LOOKUP_ELEM. Flags: BPF_F_LOCK (copy under the value's spin lock); per-CPU kinds: BPF_F_CPU (one value).
  virtual Status lookup(const void* key, void* value, uint64_t flags) const;
  /// BPF_MAP_GET_NEXT_KEY; `key` null or unknown: the first key.
  virtual Status next_key(const void* key, void* next) const;
  /// BPF_MAP_LOOKUP_BATCH: at most `capacity` elements into `sink`, from `*in_cursor` (null: the start), leaving where
  /// to go on in `*out_cursor` (batch_cursor_size() bytes each).
  virtual BatchResult lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                                   BatchSink& sink) const;
  [[nodiscard]] virtual uint32_t batch_cursor_size() const { return spec().key_size; }
  /// Several keys at once (the C++ face): value i is written and found[i] set to 1 where key i exists, else 0.
  /// Kinds with cache misses to hide overlap them.
  virtual uint32_t lookup_many(const void* keys, void* values, uint8_t* found, uint32_t count) const;

  // -- pointer reads ------------------------------------------------------------------------------------------------
  /// bpf_map_lookup_elem(): the value (of the lease's CPU), null when absent. Valid memory until the lease ends.
  virtual void* find(const Lease& lease, const void* key) const;
  /// bpf_map_lookup_percpu_elem(): null also when cpu >= cpus, or the kind is not per-CPU.
  virtual void* find_percpu(const Lease& lease, const void* key, uint32_t cpu) const;

  // -- mutations ----------------------------------------------------------------------------------------------------
  /// BPF_MAP_UPDATE_ELEM by the syscall side: per-CPU kinds take every CPU's value (or one: F_CPU / F_ALL_CPUS).
  virtual Status update(const Lease& lease, const void* key, const void* value, uint64_t flags);
  /// bpf_map_update_elem() by a program: per-CPU kinds change the lease's CPU only.
  virtual Status update_from_program(const Lease& lease, const void* key, const void* value, uint64_t flags);
  virtual Status erase(const Lease& lease, const void* key);
  /// Kinds whose values are words (MapKind::values): an update that tells which word it replaced, 0: none. So each word
  /// that ever was in the map leaves it exactly once, by exchange(), take() or take_batch(). Arrays take the word 0
  /// too: it empties the entry. lookup(), take() and batches of these kinds move words of 8 bytes.
  virtual Result<uint64_t> exchange(const Lease& lease, const void* key, uint64_t word, uint64_t flags);
  /// BPF_MAP_UPDATE_BATCH and BPF_MAP_DELETE_BATCH: update() or erase() for one element after the other until one
  /// fails; how many were done, and the error of the next one. Keys and values as a BatchSink has them. Kinds with
  /// cache misses to hide overlap them.
  virtual BatchResult update_many(const Lease& lease, const void* keys, const void* values, uint32_t count,
                                  uint64_t flags);
  virtual BatchResult erase_many(const Lease& lease, const void* keys, uint32_t count);
  /// BPF_MAP_LOOKUP_AND_DELETE_ELEM.
  virtual Status take(const Lease& lease, const void* key, void* value, uint64_t flags);
  /// BPF_MAP_LOOKUP_AND_DELETE_BATCH, as lookup_batch.
  virtual BatchResult take_batch(const Lease& lease, const void* in_cursor, void* out_cursor, uint32_t capacity,
                                 uint64_t flags, BatchSink& sink);
  /// bpf_for_each_map_elem(): calls `visit(key, value)` with pointers as find() gives them; the number of calls, or
  /// a negative errno. The visitor may update and erase.
  virtual Result<uint64_t> for_each(const Lease& lease,
                                    const std::function<Visit(const void* key, void* value)>& visit);
  /// Reads the value under the map's own protection against writers, lets `change` edit a copy, and installs that
  /// copy atomically: readers see the value before or after, never between. ENOENT when absent (the C++ face).
  /// Per-CPU kinds: value_size bytes, the value of the lease's CPU. `change` may run more than once, on a fresh copy
  /// each time, and must not use this map (EDEADLK or ETIMEDOUT if it tries).
  virtual Status modify(const Lease& lease, const void* key, const std::function<void(void* value)>& change);

  /// Completes what a dead process left half-done in `value`, which a find() gave: for whoever took the value's lock
  /// over from a dead holder (maps/value_lock.h). Nothing to do for the kinds without such values.
  virtual void settle(const Lease& lease, void* value);
  /// The same for whoever is about to act for a field of the value: waits for nobody who lives.
  virtual void settle_dead(const Lease& lease, void* value) { settle(lease, value); }

  /// Copies the key (key_size bytes) of the element whose value is at `value`, which a find() gave. False: no such
  /// place, or a kind whose values have no special fields that need it.
  virtual bool copy_key(const void* value, void* key) const;

  // -- batch support: 524 for the kinds that have none ---------------------------------------------------------------
  struct BatchSupport {
    bool lookup = false, update = false, erase = false, take = false;
  };
  [[nodiscard]] virtual BatchSupport batch_support() const { return {}; }

  // -- for tests and `skep check` -----------------------------------------------------------------------------------
  /// Walks the whole structure and checks its invariants. Call while no other thread or process mutates the map.
  [[nodiscard]] virtual CheckReport check() const = 0;

 protected:
  MapSegments segments_;
  Machine& machine_;
};

/// One row of the table of kinds.
struct MapKind {
  uint32_t type;     // BPF_MAP_TYPE_*
  const char* name;  // bpftool's name
  /// Attributes and flags, in the kernel's order and with its errors: the kind's alloc_check, and what Linux looks at
  /// only when it allocates the map, after tokens and devices. Null: nothing.
  Status (*check)(const MapSpec& spec, const MachineShape& shape) = nullptr;
  Status (*check_late)(const MapSpec& spec, const MachineShape& shape) = nullptr;
  [[nodiscard]] Status check_all(const MapSpec& spec, const MachineShape& shape) const {
    if (check != nullptr) {
      if (const Status status = check(spec, shape); !status) return status;
    }
    return check_late != nullptr ? check_late(spec, shape) : Status{};
  }
  /// May change the spec as the kernel does (rounding). E2BIG / ENOMEM where the sizes do not fit.
  Result<MapLayout> (*layout)(MapSpec& spec, const MachineShape& shape);
  /// Fills a fresh, zeroed, fully reserved pair of windows whose header is complete. Nobody else sees them yet.
  Status (*initialise)(const MapSegments& segments, Machine& machine);
  /// Opens existing windows; checks what the header cannot (sizes that the kind derives).
  Result<std::unique_ptr<Map>> (*open)(MapSegments segments, Machine& machine);
  /// Whether the syscall side's key pointer must be NULL (queue, stack, bloom).
  bool keyless = false;
  /// Whether a plain mmap(2) of the descriptor is part of the kind (with BPF_F_MMAPABLE for ARRAY).
  bool mmapable = false;
  /// What a value is; other than bytes, update() is not supported and exchange() is.
  ValueMeaning values = ValueMeaning::kBytes;
  /// Whether BPF_MAP_CREATE must name types of key and value.
  bool needs_types = false;
  /// Where the kernel checks flags and key of an update before it looks at the value: that check; null: afterwards.
  Status (*check_update)(const Map& map, const void* key, uint64_t flags) = nullptr;
};

/// The kind of that type, or null: the kernel would not know it, or skep does not have it yet.
const MapKind* find_map_kind(uint32_t type);

/// Creates a map's content in `fd`, an empty file open for reading and writing: sizes it, reserves it, fills header and
/// control data. The caller gives the file its id and name afterwards. Checks `spec` with the kind first.
struct MapCreation {
  MapSpec spec;
  char name[16] = {};
  uint32_t btf_id = 0, btf_key_type = 0, btf_value_type = 0;
  InnerTemplate inner = {};
};
Result<std::unique_ptr<Map>> create_map(int fd, const MapCreation& creation, Machine& machine);

/// Maps the map in `fd`. kReadOnly windows serve copying reads only. EINVAL with a sentence for a file that is not a
/// whole map of this layout version and of this machine's shape.
Result<std::unique_ptr<Map>> open_map(int fd, Access access, Machine& machine);

}  // namespace skep
