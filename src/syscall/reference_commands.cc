// SPDX-License-Identifier: Apache-2.0
#include "syscall/reference_commands.h"

#include "machine/reader_section.h"
#include "syscall/bounce.h"
#include "syscall/map_access.h"
#include "syscall/reference_store.h"

namespace skep {
namespace {

using Object = std::shared_ptr<const OpenObject>;

Result<Object> open_references(Process& process, uint32_t map_fd) {
  Result<Object> object = process.descriptors.share(static_cast<int>(map_fd), ObjectKind::kMap);
  if (object && (*object)->references == nullptr) return fail(EINVAL);  // another map took the number meanwhile
  return object;
}

ReferenceStore store_of(Process& process, const OpenObject& map) { return {process, *map.map, *map.references}; }

uint32_t shown_size(const OpenObject& map) { return map.map->spec().value_size; }

bool is_gone(const OpenObject& map, uint64_t word) {
  return map.references->alive != nullptr && word != 0 && !map.references->alive(map, word);
}

/// Empties the entry if what it stood for is gone. Asks only where the kind's objects can go.
void forget_gone(Process& process, const OpenObject& map, const void* key) {
  uint64_t word = 0;
  if (map.references->alive == nullptr || !map.map->lookup(key, &word, 0) || !is_gone(map, word)) return;
  store_of(process, map).drop_if([&](uint64_t one) { return one == word; });
}

}  // namespace

Answer reference_lookup_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags) {
  const Result<Object> found = open_references(process, map_fd);
  if (!found) return std::unexpected(found.error());
  const OpenObject& map = **found;
  if (!map.readable) return fail(EPERM);
  if (flags != 0) return fail(EINVAL);
  Bounce key_copy(map.key_size);
  Bounce shown(shown_size(map));
  if (key_copy.data() == nullptr || shown.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(map, key, key_copy.data()); !read) return std::unexpected(read.error());
  if (map.references->show == nullptr) return fail(kEnotsupp);
  if (map.references->check_lookup != nullptr) {
    if (const Status allowed = map.references->check_lookup(map); !allowed) return std::unexpected(allowed.error());
  }
  uint64_t word = 0;
  if (const Status status = map.map->lookup(key_copy.data(), &word, 0); !status) return std::unexpected(status.error());
  if (is_gone(map, word)) return fail(ENOENT);
  if (const Status status = map.references->show(process, map, word, shown.data()); !status)
    return std::unexpected(status.error());
  return write_user(value, shown.data(), shown_size(map)) ? Answer(0) : Answer(fail(EFAULT));
}

Answer reference_update_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags) {
  const Result<Object> found = open_references(process, map_fd);
  if (!found) return std::unexpected(found.error());
  const OpenObject& map = **found;
  if (!may_write(map)) return fail(EPERM);
  if ((flags & BPF_F_LOCK) != 0) return fail(EINVAL);
  Bounce key_copy(map.key_size);
  Bounce value_copy(shown_size(map));
  if (key_copy.data() == nullptr || value_copy.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(map, key, key_copy.data()); !read) return std::unexpected(read.error());
  if (!read_user(value_copy.data(), value, shown_size(map))) return fail(EFAULT);
  const Status updated =
      reference_update(process, map, static_cast<int>(map_fd), key_copy.data(), value_copy.data(), flags);
  return updated ? Answer(0) : Answer(std::unexpected(updated.error()));
}

Status reference_update(Process& process, const OpenObject& map, int map_fd, const void* key, const void* value,
                        uint64_t flags) {
  const MapKind* kind = find_map_kind(map.type);
  forget_gone(process, map, key);
  if (map.references->check != nullptr) {
    if (const Status checked = map.references->check(map, value); !checked) return checked;
  }
  if (kind->check_update != nullptr) {
    if (const Status checked = kind->check_update(*map.map, key, flags); !checked) return checked;
  }
  Result<Reference> reference = map.references->resolve(process, map, value);
  if (!reference) return std::unexpected(reference.error());
  if (map.references->bind != nullptr) {
    if (const Status bound = map.references->bind(map, map_fd, *reference); !bound) return bound;
  }
  const bool may_make_room = map.references->alive != nullptr;
  ReferenceStore store = store_of(process, map);
  Status stored = store.store(key, *reference, flags);
  if (stored || to_int(stored.error()) != E2BIG || !may_make_room) return stored;
  store.drop_if([&](uint64_t word) { return is_gone(map, word); });
  return store.store(key, *reference, flags);
}

Answer reference_delete_elem(Process& process, uint32_t map_fd, uint64_t key) {
  const Result<Object> found = open_references(process, map_fd);
  if (!found) return std::unexpected(found.error());
  const OpenObject& map = **found;
  if (!may_write(map)) return fail(EPERM);
  Bounce key_copy(map.key_size);
  if (key_copy.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(map, key, key_copy.data()); !read) return std::unexpected(read.error());
  forget_gone(process, map, key_copy.data());
  const Status erased = store_of(process, map).erase(key_copy.data());
  return erased ? Answer(0) : Answer(std::unexpected(erased.error()));
}

Answer reference_take_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t flags) {
  const Result<Object> found = open_references(process, map_fd);
  if (!found) return std::unexpected(found.error());
  const OpenObject& map = **found;
  if (!map.readable || !may_write(map)) return fail(EPERM);
  if (flags != 0) return fail(EINVAL);
  Bounce key_copy(map.key_size);
  if (key_copy.data() == nullptr) return fail(ENOMEM);
  if (const Status read = read_key(map, key, key_copy.data()); !read) return std::unexpected(read.error());
  return fail(kEnotsupp);
}

Status show_references(Process& process, const OpenObject& map, const uint64_t* words, uint32_t count,
                       std::byte* values) {
  if (map.references->show == nullptr) return fail(kEnotsupp);
  for (uint32_t i = 0; i < count; ++i) {
    const Status shown = map.references->show(process, map, words[i], values + uint64_t{i} * shown_size(map));
    if (!shown) return shown;
  }
  return {};
}

}  // namespace skep
