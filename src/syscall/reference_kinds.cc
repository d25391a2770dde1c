// SPDX-License-Identifier: Apache-2.0
#include "syscall/reference_kinds.h"

namespace skep {
namespace {

constexpr const ReferenceKind* kKinds[] = {&kMapReferences,      &kProgramReferences, &kDeviceReferences,
                                           &kCpuReferences,      &kSocketReferences,  &kCgroupReferences,
                                           &kPerfEventReferences};

}  // namespace

const ReferenceKind* find_reference_kind(ValueMeaning meaning) {
  for (const ReferenceKind* kind : kKinds)
    if (kind->meaning == meaning) return kind;
  return nullptr;
}

}  // namespace skep
