// SPDX-License-Identifier: Apache-2.0
// The batch commands: the client's `count` is zeroed first and says at the end how many elements were done, also after
// an error; an EFAULT on the way out of the map leaves it zero, as Linux 6.18 does.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

#include "machine/lease.h"
#include "syscall/bounce.h"
#include "syscall/commands.h"
#include "syscall/map_access.h"
#include "syscall/reference_commands.h"
#include "syscall/reference_store.h"

namespace skep {
namespace {

constexpr size_t kCountOffset = offsetof(bpf_attr, batch.count);

/// Puts the elements that a walk delivers one behind the other into the client's arrays.
class UserArrays final : public BatchSink {
 public:
  UserArrays(uint64_t keys, uint64_t values, uint64_t key_size, uint64_t value_size)
      : keys_(keys), values_(values), key_size_(key_size), value_size_(value_size) {}

  bool put(const void* keys, const void* values, uint32_t count) override {
    if (!write_user(keys_, keys, count * key_size_) || !write_user(values_, values, count * value_size_)) return false;
    keys_ += count * key_size_;
    values_ += count * value_size_;
    return true;
  }

 private:
  uint64_t keys_, values_;
  uint64_t key_size_, value_size_;
};

/// The same for a map whose values are not bytes: the words that the walk delivers are shown as lookups show them.
class ShownReferences final : public BatchSink {
 public:
  ShownReferences(Process& process, const OpenObject& map, BatchSink& sink)
      : process_(process), map_(map), sink_(sink) {}

  bool put(const void* keys, const void* values, uint32_t count) override {
    shown_.resize(uint64_t{count} * map_.map->spec().value_size);
    const auto* words = static_cast<const uint64_t*>(values);
    return show_references(process_, map_, words, count, shown_.data()) && sink_.put(keys, shown_.data(), count);
  }

 private:
  Process& process_;
  const OpenObject& map_;
  BatchSink& sink_;
  std::vector<std::byte> shown_;
};

/// Bytes of one value in the client's arrays.
uint64_t client_value_size(const OpenObject& object) {
  return object.plain_map ? object.user_value_size : object.map->spec().value_size;
}

Status check_element_flags(const OpenObject& object, uint64_t flags) {
  if ((flags & ~uint64_t{BPF_F_LOCK}) != 0 || (flags != 0 && !object.has_spin_lock)) return fail(EINVAL);
  return {};
}

/// LOOKUP_BATCH and LOOKUP_AND_DELETE_BATCH.
template <class Walk>
Answer walk_out(Caller& caller, const OpenObject& object, const Walk& walk) {
  const auto& batch = caller.attr.batch;
  if (const Status flags = check_element_flags(object, batch.elem_flags); !flags) return std::unexpected(flags.error());
  if (batch.flags != 0 && is_hash(object.type)) return fail(EINVAL);
  if (batch.count == 0) return 0;
  if (!caller.write_back(kCountOffset, uint32_t{0})) return fail(EFAULT);

  const uint32_t cursor_size = object.map->batch_cursor_size();
  Bounce in(cursor_size);
  Bounce out(cursor_size);
  if (in.data() == nullptr || out.data() == nullptr) return fail(ENOMEM);
  const std::byte* from = nullptr;
  if (batch.in_batch != 0) {
    if (!read_user(in.data(), batch.in_batch, cursor_size)) return fail(EFAULT);
    from = in.data();
  }
  UserArrays sink(batch.keys, batch.values, object.key_size, client_value_size(object));
  ShownReferences shown(caller.process, object, sink);
  const BatchResult done = walk(from, out.data(), object.plain_map ? static_cast<BatchSink&>(sink) : shown);
  if (done.error == EFAULT) return fail(EFAULT);
  // Whether the count is written where the cursor cannot be.
  const bool count_first = !is_hash(object.type) || object.type == BPF_MAP_TYPE_RHASH;
  if ((count_first && !caller.write_back(kCountOffset, done.count)) ||
      (done.cursor_written && !write_user(batch.out_batch, out.data(), cursor_size)) ||
      (!count_first && !caller.write_back(kCountOffset, done.count)))
    return fail(EFAULT);
  if (done.error != 0) return fail(done.error);
  return 0;
}

/// Calls `element(key, value)` for one element after the other until one fails.
template <class Element>
BatchResult one_by_one(const OpenObject& object, const void* keys, const void* values, uint32_t count,
                       const Element& element) {
  const uint64_t key_size = object.key_size, value_size = client_value_size(object);
  for (uint32_t i = 0; i < count; ++i) {
    const Status status = element(static_cast<const std::byte*>(keys) + i * key_size,
                                  static_cast<const std::byte*>(values) + i * value_size);
    if (!status) return {.count = i, .error = to_int(status.error())};
  }
  return {.count = count};
}

/// UPDATE_BATCH and DELETE_BATCH: elements are copied in by runs, each of which `run_of(lease, keys, values, count)`
/// does under one lease, one element after the other until one fails; elements that are not bytes have no lease, and
/// `run_of` no use for it.
template <class RunOf>
Answer walk_in(Caller& caller, const OpenObject& object, uint64_t value_size, const RunOf& run_of) {
  constexpr uint64_t kRunBytes = 16384;
  constexpr uint64_t kRunElements = 128;
  const auto& batch = caller.attr.batch;
  if (const Status flags = check_element_flags(object, batch.elem_flags); !flags) return std::unexpected(flags.error());
  if (batch.count == 0) return 0;
  if (!caller.write_back(kCountOffset, uint32_t{0})) return fail(EFAULT);

  const uint64_t key_size = object.key_size;
  const uint64_t in_run = std::clamp<uint64_t>(kRunBytes / (key_size + value_size), 1, kRunElements);
  Bounce buffer(in_run * (key_size + value_size));
  if (buffer.data() == nullptr) return fail(ENOMEM);
  std::byte* const values = buffer.data() + in_run * key_size;

  uint32_t done = 0;
  int error = 0;
  while (done < batch.count && error == 0) {
    const auto copy_in = [&](uint64_t count) {
      return read_user(buffer.data(), batch.keys + done * key_size, count * key_size) &&
             read_user(values, batch.values + done * value_size, count * value_size);
    };
    uint64_t run = std::min<uint64_t>(in_run, batch.count - done);
    if (!copy_in(run)) {
      run = 1;  // the fault may lie behind elements that are still to be done
      if (!copy_in(1)) {
        error = EFAULT;
        break;
      }
    }
    std::optional<Lease> lease;
    if (object.plain_map) lease.emplace(caller.machine());
    if (is_frozen(object)) {
      error = EPERM;
      break;
    }
    const BatchResult part = run_of(lease, buffer.data(), values, static_cast<uint32_t>(run));
    done += part.count;
    error = part.error;
  }
  if (!caller.write_back(kCountOffset, done)) return fail(EFAULT);
  if (error != 0) return fail(error);
  return 0;
}

using Object = std::shared_ptr<const OpenObject>;

/// What all four check first, in this order.
Result<Object> open_for_batch(Caller& caller, bool reads, bool writes, bool Map::BatchSupport::*supported) {
  Result<Object> object = share_map(caller, caller.attr.batch.map_fd);
  if (!object) return object;
  if ((reads && !(*object)->readable) || (writes && !may_write(**object))) return fail(EPERM);
  if (!((*object)->map->batch_support().*supported)) return fail(kEnotsupp);
  return object;
}

}  // namespace

Answer map_lookup_batch(Caller& caller) {
  const Result<Object> object = open_for_batch(caller, true, false, &Map::BatchSupport::lookup);
  if (!object) return std::unexpected(object.error());
  const auto& batch = caller.attr.batch;
  return walk_out(caller, **object, [&](const void* in, void* out, BatchSink& sink) {
    return (*object)->map->lookup_batch(in, out, batch.count, batch.elem_flags, sink);
  });
}

Answer map_lookup_and_delete_batch(Caller& caller) {
  const Result<Object> object = open_for_batch(caller, true, true, &Map::BatchSupport::take);
  if (!object) return std::unexpected(object.error());
  const auto& batch = caller.attr.batch;
  return walk_out(caller, **object, [&](const void* in, void* out, BatchSink& sink) {
    if (!(*object)->plain_map) {
      return ReferenceStore(caller.process, *(*object)->map, *(*object)->references)
          .take_batch(in, out, batch.count, batch.elem_flags, sink);
    }
    const Lease lease(caller.machine());
    if (is_frozen(**object)) return BatchResult{.error = EPERM};
    return (*object)->map->take_batch(lease, in, out, batch.count, batch.elem_flags, sink);
  });
}

Answer map_update_batch(Caller& caller) {
  const Result<Object> object = open_for_batch(caller, false, true, &Map::BatchSupport::update);
  if (!object) return std::unexpected(object.error());
  return walk_in(caller, **object, client_value_size(**object),
                 [&](const std::optional<Lease>& lease, const void* keys, const void* values, uint32_t count) {
                   const uint64_t flags = caller.attr.batch.elem_flags;
                   if (lease) return (*object)->map->update_many(*lease, keys, values, count, flags);
                   return one_by_one(**object, keys, values, count, [&](const void* key, const void* value) {
                     return reference_update(caller.process, **object, static_cast<int>(caller.attr.batch.map_fd), key,
                                             value, flags);
                   });
                 });
}

Answer map_delete_batch(Caller& caller) {
  const Result<Object> object = open_for_batch(caller, false, true, &Map::BatchSupport::erase);
  if (!object) return std::unexpected(object.error());
  return walk_in(caller, **object, 0,
                 [&](const std::optional<Lease>& lease, const void* keys, const void* values, uint32_t count) {
                   if (lease) return (*object)->map->erase_many(*lease, keys, count);
                   return one_by_one(**object, keys, values, count, [&](const void* key, const void*) {
                     return ReferenceStore(caller.process, *(*object)->map, *(*object)->references).erase(key);
                   });
                 });
}

}  // namespace skep
