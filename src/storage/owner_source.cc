// SPDX-License-Identifier: Apache-2.0
#include "storage/owner_source.h"

namespace skep {

const OwnerSource* find_owner_source(OwnerKind kind) {
  switch (kind) {
    case OwnerKind::kTask:
      return &kTaskOwners;
    case OwnerKind::kCgroup:
      return &kCgroupOwners;
    case OwnerKind::kSocket:
      return &kSocketOwners;
    case OwnerKind::kInode:
      return &kInodeOwners;
    case OwnerKind::kObject:
      return nullptr;
  }
  return nullptr;
}

bool is_gone(const OwnerIdentity& identity, const OwnerTrace* trace) {
  const OwnerSource* source = find_owner_source(identity.kind);
  return source != nullptr && trace != nullptr && source->gone(identity, *trace);
}

}  // namespace skep
