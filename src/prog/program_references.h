// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/perf_event.h"
#include "prog/decode.h"
#include "prog/id_cache.h"

namespace skep {

/// A program that others jump to, ready to run in this process.
struct ReadyProgram {
  uint32_t id = 0;
  const DecodedCode* code = nullptr;
  std::shared_ptr<const void> owner;  // keeps the code
};

/// A perf event that programs write to, mapped in this process.
struct ReadyEvent {
  uint32_t id = 0;
  std::unique_ptr<PerfEvent> event;
  mutable std::atomic<uint64_t> next_look{0};   // CLOCK_MONOTONIC: when an entry may be asked after again
  mutable std::atomic<uint64_t> ended_word{0};  // an entry that has ended but still stands in the map `ended_in`
  mutable std::atomic<uint32_t> ended_in{0};
  [[nodiscard]] bool ended(uint32_t map, uint64_t word) const {
    return ended_word.load(std::memory_order_relaxed) == word && ended_in.load(std::memory_order_relaxed) == map;
  }
};

/// What the words in maps of maps, in program arrays and in arrays of perf events stand for, for the programs of one
/// process. Knows what was used before; the layer that knows objects implements the rest. Any thread, under a lease, to
/// whose end the results are valid even if the object goes meanwhile.
class ProgramReferences {
 public:
  explicit ProgramReferences(Machine& machine) : maps_(machine), programs_(machine), events_(machine) {}
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
  /// The perf event of that id; null: there is none (any more).
  const ReadyEvent* event(uint32_t id) {
    const ReadyEvent* found = events_.find(id);
    return found != nullptr ? found : open_event(id);
  }
  /// Whether the entry `word` of the map has ended with the descriptor that it was made through. Asks the operating
  /// system, unless somebody did so for this event less than a tenth of a second ago: then false.
  virtual bool entry_ended(const MapBinding& map, const ReadyEvent& event, uint64_t word) = 0;

 protected:
  virtual const MapBinding* open_map(uint32_t id) = 0;
  virtual const ReadyProgram* open_program(uint32_t id) = 0;
  virtual const ReadyEvent* open_event(uint32_t id) = 0;

  IdCache<MapBinding> maps_;
  IdCache<ReadyProgram> programs_;
  IdCache<ReadyEvent> events_;
};

}  // namespace skep
