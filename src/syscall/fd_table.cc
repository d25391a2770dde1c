// SPDX-License-Identifier: Apache-2.0
#include "syscall/fd_table.h"

#include <fcntl.h>
#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "machine/reader_section.h"
#include "syscall/commands.h"
#include "syscall/last_user.h"
#include "syscall/perf_event_entries.h"
#include "syscall/reference_kinds.h"

namespace skep {
namespace {

// Every table of the process, for fork(2); never destroyed, so that threads may run on while the process exits.
struct Tables {
  QuietMutex mutex;
  std::vector<FdTable*> all;
};
Tables& tables() {
  static Tables* const tables = new Tables;
  return *tables;
}

/// How many closes the calling thread is in: more than one where its signal handler closes something.
[[gnu::tls_model("initial-exec")]] constinit thread_local uint32_t t_closes = 0;

}  // namespace

/// The opening of what may be put in.
class FdTable::Addition {
 public:
  explicit Addition(FdTable& table) : table_(table), lock_(table.mutex_) {
    table_.adding_.store(true, std::memory_order_seq_cst);
    table_.may_put_ = table_.closes_under_way_.load(std::memory_order_seq_cst) == 0;
  }
  Addition(const Addition&) = delete;
  Addition& operator=(const Addition&) = delete;
  ~Addition() { table_.adding_.store(false, std::memory_order_release); }

 private:
  FdTable& table_;
  const std::scoped_lock<QuietMutex> lock_;
};

void FdTable::watch_forks() {
  [[maybe_unused]] static const int registered = ::pthread_atfork(
      before_fork, [] { after_fork(false); }, [] { after_fork(true); });
}

FdTable::FdTable(Process& process) : process_(process), instance_(*process.instance) {
  watch_forks();
  chunks_[0].store(&first_chunk_, std::memory_order_relaxed);
  const std::scoped_lock lock(tables().mutex);
  tables().all.push_back(this);
}

FdTable::~FdTable() {
  {
    const std::scoped_lock lock(tables().mutex);
    std::erase(tables().all, this);
  }
  for (std::atomic<Chunk*>& slot : chunks_) {
    Chunk* chunk = slot.load(std::memory_order_relaxed);
    if (chunk == nullptr) continue;
    for (std::atomic<OpenObject*>& entry : chunk->entries)
      if (OpenObject* object = entry.load(std::memory_order_relaxed))
        std::exchange(object->published_, nullptr).reset();
    if (chunk != &first_chunk_) delete chunk;
  }
}

void FdTable::before_fork() {
  tables().mutex.lock();
  for (FdTable* table : tables().all) table->mutex_.lock();
}

void FdTable::after_fork(bool child) {
  for (FdTable* table : tables().all) {
    if (child) {  // who was closing something stayed behind, but for this thread
      table->closes_under_way_.store(table->trusted_.load() ? t_closes : 0);
      table->dying_.clear();
    }
    table->mutex_.unlock();
  }
  tables().mutex.unlock();
}

bool FdTable::agrees(const OpenObject& object, int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || info.st_ino != object.inode || info.st_dev != object.device) return false;
  const int mode = ::fcntl(fd, F_GETFL);
  return mode >= 0 && (mode & O_PATH) == 0 && object.readable == ((mode & O_ACCMODE) != O_WRONLY) &&
         object.writable == ((mode & O_ACCMODE) != O_RDONLY);
}

Result<const OpenObject*> FdTable::find_with_care(int fd) {
  const OpenObject* object = known(fd);
  if (object != nullptr && agrees(*object, fd)) return object;
  Result<std::shared_ptr<OpenObject>> found = find_slowly(fd);
  if (!found) return std::unexpected(found.error());
  object = found->get();
  // It may not stand in the table; then only this keeps it to the end of the caller's section.
  instance_.machine().defer([kept = *std::move(found)] {});
  return object;
}

Result<std::shared_ptr<const OpenObject>> FdTable::share(int fd) {
  {
    const ReaderSection section(instance_.machine());
    const OpenObject* object = known(fd);
    if (object != nullptr && (trusted_.load(std::memory_order_relaxed) || agrees(*object, fd)))
      return object->shared_from_this();
  }
  return find_slowly(fd);
}

Result<std::shared_ptr<const OpenObject>> FdTable::share(int fd, ObjectKind kind) {
  Result<std::shared_ptr<const OpenObject>> object = share(fd);
  if (object && (*object)->kind != kind) return fail(EINVAL);
  return object;
}

Result<std::shared_ptr<OpenObject>> FdTable::find_slowly(int fd) {
  if (fd < 0) return fail(EBADF);
  const Addition addition(*this);
  if (OpenObject* object = known(fd)) {
    if (agrees(*object, fd)) return object->published_;
    const auto number = static_cast<unsigned>(fd);
    take_out_stale(chunks_[number / kChunkSize].load(std::memory_order_relaxed)->entries[number % kChunkSize]);
  }
  Result<std::shared_ptr<OpenObject>> object = open(fd);
  if (object) put(static_cast<unsigned>(fd), *object);
  return object;
}

Result<std::shared_ptr<OpenObject>> FdTable::open(int fd) {
  const Result<FileHeader> header = instance_.identify(fd);
  if (!header) return std::unexpected(header.error());
  const int mode = ::fcntl(fd, F_GETFL);
  struct stat info {};
  if (mode < 0 || ::fstat(fd, &info) != 0) return fail(EBADF);

  auto object = std::make_shared<OpenObject>();
  object->kind = header->kind;
  object->id = header->id;
  object->readable = (mode & O_ACCMODE) != O_WRONLY;
  object->writable = (mode & O_ACCMODE) != O_RDONLY;
  object->device = info.st_dev;
  object->inode = info.st_ino;
  if (header->kind == ObjectKind::kMap) {
    Result<std::shared_ptr<Map>> map = map_of_file(fd, info, (mode & O_ACCMODE) == O_RDWR);
    if (!map) return std::unexpected(map.error());
    describe_map(*object, *std::move(map));
    return object;
  }
  const Result<FileDescriptor> readable = Instance::reopen(fd, O_RDONLY);
  if (!readable) return std::unexpected(readable.error());
  Result<std::shared_ptr<ObjectFace>> face = fail(EINVAL);
  if (header->kind == ObjectKind::kProgram) face = open_program(process_, readable->get(), *header);
  if (header->kind == ObjectKind::kLink) face = open_link(process_, readable->get(), *header);
  if (header->kind == ObjectKind::kBtf) face = open_btf(process_, readable->get(), *header);
  if (header->kind == ObjectKind::kPerfEvent) face = open_perf_event(process_, readable->get(), *header);
  if (!face) return std::unexpected(face.error());
  object->face = *std::move(face);
  return object;
}

Result<std::shared_ptr<Map>> FdTable::map_of_file(int fd, const struct stat& info, bool client_writes) {
  if (const auto found = maps_.find(info.st_ino); found != maps_.end())
    if (std::shared_ptr<Map> map = found->second.lock()) return map;

  // A description of our own, which references nothing. Where the file's mode no longer lets us write (a pin that was
  // made read-only), a client's writable descriptor still does; else copying reads are all that is left.
  Result<std::unique_ptr<Map>> map = fail(EACCES);
  if (const Result<FileDescriptor> own = Instance::reopen(fd, O_RDWR)) {
    map = open_map(own->get(), Access::kReadWrite, instance_.machine());
  } else if (client_writes) {
    map = open_map(fd, Access::kReadWrite, instance_.machine());
  } else if (const Result<FileDescriptor> reader = Instance::reopen(fd, O_RDONLY)) {
    map = open_map(reader->get(), Access::kReadOnly, instance_.machine());
    if (!map) return std::unexpected(map.error());
    return std::shared_ptr<Map>(*std::move(map));  // not shared with descriptors that may write
  }
  if (!map) return std::unexpected(map.error());
  std::shared_ptr<Map> shared(*std::move(map));
  remember(info.st_ino, shared);
  return shared;
}

void FdTable::remember(ino_t inode, const std::shared_ptr<Map>& map) {
  if (maps_.size() >= maps_swept_at_) {
    std::erase_if(maps_, [](const auto& entry) { return entry.second.expired(); });
    maps_swept_at_ = std::max<size_t>(64, maps_.size() * 2);
  }
  maps_[inode] = map;
}

void FdTable::describe_map(OpenObject& object, std::shared_ptr<Map> map) const {
  const MapSpec& spec = map->spec();
  object.key_size = spec.key_size;
  object.type = spec.type;
  object.user_value_size = map->user_value_size();
  const MapKind* kind = find_map_kind(spec.type);
  object.keyless = kind != nullptr && kind->keyless;
  object.references = find_reference_kind(kind != nullptr ? kind->values : ValueMeaning::kBytes);
  object.storage = kind != nullptr && kind->values == ValueMeaning::kOwned;
  object.plain_map = object.references == nullptr && !object.storage;
  object.has_spin_lock = spec.fields.spin_lock != ValueFields::kNone;
  object.frozen = &map->header().frozen;
  object.map = std::move(map);
}

void FdTable::put(unsigned fd, const std::shared_ptr<OpenObject>& object) {
  if (!may_put_ || fd >= kChunks * kChunkSize) return;
  std::atomic<Chunk*>& slot = chunks_[fd / kChunkSize];
  Chunk* chunk = slot.load(std::memory_order_relaxed);
  if (chunk == nullptr) {
    chunk = new Chunk{};
    slot.store(chunk, std::memory_order_release);  // pairs with known()
  }
  std::atomic<OpenObject*>& entry = chunk->entries[fd % kChunkSize];
  take_out_stale(entry);
  object->published_ = object;
  entry.store(object.get(), std::memory_order_release);  // pairs with known()
}

void FdTable::take_out(std::atomic<OpenObject*>& entry) {
  OpenObject* object = entry.load(std::memory_order_relaxed);
  if (object == nullptr) return;
  entry.store(nullptr, std::memory_order_relaxed);
  instance_.machine().defer([kept = std::exchange(object->published_, nullptr)] {});
}

/// Its descriptor was closed without our being told: with it the object may have died.
void FdTable::take_out_stale(std::atomic<OpenObject*>& entry) {
  const OpenObject* object = entry.load(std::memory_order_relaxed);
  if (object == nullptr) return;
  instance_.collect(object->kind, object->id);
  take_out(entry);
}

Result<int> FdTable::install(FileDescriptor fd) {
  instance_.machine().run_deferred();
  const Addition addition(*this);
  const Result<std::shared_ptr<OpenObject>> object = open(fd.get());
  if (!object) return std::unexpected(object.error());
  put(static_cast<unsigned>(fd.get()), *object);
  return fd.release();
}

Result<int> FdTable::install(FileDescriptor fd, std::unique_ptr<Map> map) {
  instance_.machine().run_deferred();
  struct stat info {};
  const int mode = ::fcntl(fd.get(), F_GETFL);
  if (mode < 0 || ::fstat(fd.get(), &info) != 0) return fail(errno);
  auto object = std::make_shared<OpenObject>();
  object->kind = ObjectKind::kMap;
  object->id = map->header().file.id;
  object->readable = (mode & O_ACCMODE) != O_WRONLY;
  object->writable = (mode & O_ACCMODE) != O_RDONLY;
  object->device = info.st_dev;
  object->inode = info.st_ino;
  describe_map(*object, std::move(map));
  const Addition addition(*this);
  remember(info.st_ino, object->map);
  put(static_cast<unsigned>(fd.get()), object);
  return fd.release();
}

Result<std::shared_ptr<Map>> FdTable::map_by_id(uint32_t id) {
  const Result<FileDescriptor> fd = instance_.open_by_id(ObjectKind::kMap, id, O_RDONLY);
  if (!fd) return std::unexpected(fd.error());
  return map_of(fd->get());
}

Result<std::shared_ptr<Map>> FdTable::map_of(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return fail(errno);
  const std::scoped_lock lock(mutex_);
  return map_of_file(fd, info, false);
}

bool FdTable::any_known(unsigned first, unsigned last) const {
  for (unsigned fd = first; fd <= last; ++fd) {
    if (known(static_cast<int>(fd)) != nullptr) return true;
    if (chunks_[fd / kChunkSize].load(std::memory_order_acquire) == nullptr) fd |= kChunkSize - 1;
  }
  return false;
}

bool FdTable::closing(unsigned first, unsigned last) {
  ++t_closes;
  closes_under_way_.fetch_add(1, std::memory_order_seq_cst);
  last = std::min(last, kChunks * kChunkSize - 1);
  if (!adding_.load(std::memory_order_seq_cst) && !any_known(first, last)) [[likely]]
    return false;
  const std::scoped_lock lock(mutex_);
  bool objects = false;
  for (unsigned fd = first; fd <= last; ++fd) {
    Chunk* chunk = chunks_[fd / kChunkSize].load(std::memory_order_relaxed);
    if (chunk == nullptr) {
      fd |= kChunkSize - 1;
      continue;
    }
    std::atomic<OpenObject*>& entry = chunk->entries[fd % kChunkSize];
    if (const OpenObject* object = entry.load(std::memory_order_relaxed)) {
      objects = true;
      const bool ends = object->map != nullptr && ends_with_users(object->map->spec());
      dying_.push_back({.fd = fd,
                        .kind = object->kind,
                        .id = object->id,
                        .ends_with_users = ends,
                        .ends_with_file = object->map != nullptr && object->type == BPF_MAP_TYPE_PERF_EVENT_ARRAY});
      take_out(entry);
    }
  }
  if (objects) QuietSection::begin();
  return objects;
}

void FdTable::closed(unsigned first, unsigned last, bool objects) {
  closes_under_way_.fetch_sub(1, std::memory_order_seq_cst);
  --t_closes;
  if (!objects) return;
  const int saved_errno = errno;
  {
    std::vector<Dying> dead;
    {
      const std::scoped_lock lock(mutex_);
      std::erase_if(dying_, [&](const Dying& one) {
        if (one.fd < first || one.fd > last) return false;
        dead.push_back(one);
        return true;
      });
    }
    for (const Dying& one : dead) {
      if (one.ends_with_users) map_lost_its_users(process_, one.id);
      if (one.ends_with_file) drop_closed_insertions(process_, one.id);
      instance_.collect(one.kind, one.id);
    }
    instance_.machine().run_deferred();
  }
  QuietSection::end();
  errno = saved_errno;
}

}  // namespace skep
