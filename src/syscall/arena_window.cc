// SPDX-License-Identifier: Apache-2.0
#include "syscall/arena_window.h"

#include "maps/arena_map.h"
#include "syscall/client_mappings.h"

namespace skep {

bool find_arena_window(const OpenObject& object) {
  auto& arena = static_cast<ArenaMap&>(*object.map);
  if (!arena.segments().control.writable()) return false;  // whose pages its programs could not write
  if (arena.window().pages != 0) return true;
  struct stat info {};
  info.st_dev = object.device;
  info.st_ino = object.inode;
  constexpr uint64_t kMostPages = uint64_t{1} << 20;
  const auto mapping = own_client_mapping(info, arena.header().file.user_size);
  const uint64_t pages = (mapping.end - mapping.begin) / kPageSize;
  if (pages == 0 || pages > kMostPages) return false;
  if (mapping.begin >> 32 != (mapping.end - 1) >> 32) return false;  // its programs know the low halves only
  arena.claim_window(mapping.begin, pages);
  return true;
}

}  // namespace skep
