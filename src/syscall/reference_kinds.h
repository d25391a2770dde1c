// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "object/entry_holds.h"
#include "syscall/caller.h"

namespace skep {

/// What a client's value stands for, on its way into a map.
struct Reference {
  uint64_t word = 0;    // what the map stores; 0: the entry is to be empty, which not every kind can ask for
  HeldObject held;      // the object of this instance that the entry keeps alive, if any
  FileDescriptor file;  // a reference of that object, so that it lives until the entry holds it
};

/// How the syscall side reads and shows the values of the kinds whose values are not bytes (MapKind::values).
///
/// A row knows one ValueMeaning. The map below it stores words; reference_store.h keeps what they stand for alive;
/// reference_commands.cc is the bpf(2) commands on such maps. To add a kind: a ValueMeaning, a row here in a file of
/// its own, a MapKind over ReferenceArrayMap or the hash with `values` set.
struct ReferenceKind {
  ValueMeaning meaning;
  /// The client's value (spec().value_size bytes, copied in) as a reference, with the kernel's checks and errors.
  Result<Reference> (*resolve)(Process& process, const OpenObject& map, const void* value);
  /// Writes what a lookup shows of a word: spec().value_size bytes. Null: lookups are not supported (524).
  Status (*show)(Process& process, const OpenObject& map, uint64_t word, void* value);
  /// The object that an entry with this word keeps alive. Null: none ever.
  HeldObject (*held)(uint64_t word);
  /// What a lookup is refused with before its key is looked at. Null: nothing.
  Status (*check_lookup)(const OpenObject& map) = nullptr;
  /// Whether what a word stands for still exists, where the entry cannot keep it alive. Null: always. An entry whose
  /// object is gone counts as empty; it is noticed by whoever looks.
  bool (*alive)(const OpenObject& map, uint64_t word) = nullptr;
  /// Ties an entry that is about to be stored to the description behind the map's descriptor. Null: entries are not.
  Status (*bind)(const OpenObject& map, int map_fd, Reference& reference) = nullptr;
  /// What a value is refused with whatever its key and the flags are. Null: nothing.
  Status (*check)(const OpenObject& map, const void* value) = nullptr;
};

/// The row; null for kBytes and for what skep does not have.
const ReferenceKind* find_reference_kind(ValueMeaning meaning);

extern const ReferenceKind kMapReferences;      // reference_maps.cc
extern const ReferenceKind kProgramReferences;  // reference_programs.cc
extern const ReferenceKind kDeviceReferences;   // reference_devices.cc
extern const ReferenceKind kCpuReferences;
extern const ReferenceKind kSocketReferences;     // reference_sockets.cc
extern const ReferenceKind kCgroupReferences;     // reference_cgroups.cc
extern const ReferenceKind kPerfEventReferences;  // reference_perf_events.cc

}  // namespace skep
