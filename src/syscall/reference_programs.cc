// SPDX-License-Identifier: Apache-2.0
// Programs in maps: the values of PROG_ARRAY.
#include <fcntl.h>

#include <cstring>

#include "syscall/program_owner.h"
#include "syscall/reference_kinds.h"

namespace skep {
namespace {

Result<Reference> resolve(Process& process, const OpenObject& map, const void* value) {
  uint32_t fd;
  std::memcpy(&fd, value, sizeof fd);
  const auto program = process.descriptors.share(static_cast<int>(fd), ObjectKind::kProgram);
  if (!program) return std::unexpected(program.error());
  if (!fits_owner(map.map->header(), program_of(**program).image())) return fail(EINVAL);
  // A reference of our own: the client may close its descriptor meanwhile.
  Result<FileDescriptor> file = process.instance->open_by_id(ObjectKind::kProgram, (*program)->id, O_RDONLY);
  if (!file) return std::unexpected(file.error());
  return Reference{
      .word = (*program)->id, .held = {.kind = ObjectKind::kProgram, .id = (*program)->id}, .file = *std::move(file)};
}

Status show(Process&, const OpenObject&, uint64_t word, void* value) {
  const auto id = static_cast<uint32_t>(word);
  std::memcpy(value, &id, sizeof id);
  return {};
}

HeldObject held(uint64_t word) { return {.kind = ObjectKind::kProgram, .id = static_cast<uint32_t>(word)}; }

}  // namespace

constinit const ReferenceKind kProgramReferences = {
    .meaning = ValueMeaning::kProgram, .resolve = resolve, .show = show, .held = held};

}  // namespace skep
