// SPDX-License-Identifier: Apache-2.0
// Devices and CPUs in maps: the values of DEVMAP, DEVMAP_HASH and CPUMAP. A value is a number (of a device; of packets
// that a CPU's queue may hold), and in its 8-byte form the descriptor of an XDP program that goes on with the packet.
#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "machine/kernel_objects.h"
#include "syscall/program_owner.h"
#include "syscall/reference_kinds.h"

namespace skep {
namespace {

constexpr uint32_t kXdpDevmap = 33, kXdpCpumap = 35;  // BPF_XDP_DEVMAP, BPF_XDP_CPUMAP
constexpr uint32_t kLongestQueue = 16384;

/// A client's value, and what a lookup shows: there the second half is the program's id.
struct Value {
  uint32_t number = 0;
  int32_t program = 0;
};
static_assert(sizeof(Value) == 8);

Value read_value(const OpenObject& map, const void* from) {
  Value value;
  std::memcpy(&value, from, std::min<size_t>(map.map->spec().value_size, sizeof value));
  return value;
}

/// The entry of `value`; EINVAL where the program is not one for such maps.
Result<Reference> make_reference(Process& process, const OpenObject& map, const Value& value, uint32_t attach_type) {
  Reference reference{.word = value.number, .held = {}, .file = {}};
  if (value.program <= 0) return reference;
  const auto program = process.descriptors.share(value.program, ObjectKind::kProgram);
  if (!program) return fail(EINVAL);
  const ProgramImage& image = program_of(**program).image();
  if (image.facts.type != BPF_PROG_TYPE_XDP || image.facts.expected_attach_type != attach_type ||
      !fits_owner(map.map->header(), image)) {
    return fail(EINVAL);
  }
  // A reference of our own: the client may close its descriptor meanwhile.
  Result<FileDescriptor> file = process.instance->open_by_id(ObjectKind::kProgram, (*program)->id, O_RDONLY);
  if (!file) return std::unexpected(file.error());
  reference.word |= uint64_t{(*program)->id} << 32;
  reference.held = {.kind = ObjectKind::kProgram, .id = (*program)->id};
  reference.file = *std::move(file);
  return reference;
}

/// An array's entry is emptied by the device 0; a hash has deletion for that.
Status check_device(const OpenObject& map, const void* from) {
  return map.type == BPF_MAP_TYPE_DEVMAP_HASH && read_value(map, from).number == 0 ? fail(EINVAL) : Status{};
}

Result<Reference> resolve_device(Process& process, const OpenObject& map, const void* from) {
  const Value value = read_value(map, from);
  if (value.number == 0) return value.program > 0 ? fail(EINVAL) : Result<Reference>(Reference{});
  if (!device_exists(value.number)) return fail(EINVAL);
  return make_reference(process, map, value, kXdpDevmap);
}

Result<Reference> resolve_cpu(Process& process, const OpenObject& map, const void* from) {
  const Value value = read_value(map, from);
  if (value.number > kLongestQueue) return fail(EOVERFLOW);
  if (value.number == 0) return Reference{};
  Result<Reference> reference = make_reference(process, map, value, kXdpCpumap);
  // The kernel makes the queue and the program's place in it together, and says only that it could not.
  return reference ? std::move(reference) : fail(ENOMEM);
}

Status show(Process&, const OpenObject& map, uint64_t word, void* to) {
  std::memcpy(to, &word, std::min<size_t>(map.map->spec().value_size, sizeof word));
  return {};
}

HeldObject held(uint64_t word) { return {.kind = ObjectKind::kProgram, .id = static_cast<uint32_t>(word >> 32)}; }

bool device_alive(const OpenObject&, uint64_t word) { return device_exists(static_cast<uint32_t>(word)); }

}  // namespace

constinit const ReferenceKind kDeviceReferences = {.meaning = ValueMeaning::kDevice,
                                                   .resolve = resolve_device,
                                                   .show = show,
                                                   .held = held,
                                                   .alive = device_alive,
                                                   .check = check_device};
constinit const ReferenceKind kCpuReferences = {
    .meaning = ValueMeaning::kCpu, .resolve = resolve_cpu, .show = show, .held = held};

}  // namespace skep
