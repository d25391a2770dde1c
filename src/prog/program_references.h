// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "prog/decode.h"
#include "prog/id_cache.h"

namespace skep {

/// A program that others jump to, ready to run in this process.
struct ReadyProgram {
  uint32_t id = 0;
  const DecodedCode* code = nullptr;
  std::shared_ptr<const void> owner;  // keeps the code
};

/// What the words in maps of maps and in program arrays stand for, for the programs of one process. Knows what was used
/// before; the layer that knows objects implements the rest. Any thread, under a lease, to whose end the results are
/// valid even if the object goes meanwhile.
class ProgramReferences {
 public:
  explicit ProgramReferences(Machine& machine) : maps_(machine), programs_(machine) {}
  virtual ~ProgramReferences() = default;

  /// The map of that id; null: there is none (any more).
  const MapBinding* map(uint32_t id) {
    const MapBinding* found = maps_.find(id);
    return found != nullptr ? found : open_map(id);
  }
  /// The program of that id; null: there is none (any more), or it cannot be made ready.
  const ReadyProgram* program(uint32_t id) {
    const ReadyProgram* found = programs_.find(id);
    return found != nullptr ? found : open_program(id);
  }
  /// Whether clients have descriptors or pins of the map; what only programs hold has no users.
  [[nodiscard]] virtual bool has_users(uint32_t map_id) const = 0;

 protected:
  virtual const MapBinding* open_map(uint32_t id) = 0;
  virtual const ReadyProgram* open_program(uint32_t id) = 0;

  IdCache<MapBinding> maps_;
  IdCache<ReadyProgram> programs_;
};

}  // namespace skep
