// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "btf/btf.h"

namespace skep {

/// The special fields of a map value of type `id`; none where the kernel finds none or finds them malformed.
ValueFields fields_of_value(const Btf& btf, uint32_t id);

/// What BPF_BTF_LOAD demands of each struct that directly contains a spin lock, a list or tree root or node, or a
/// reference count. E2BIG: one that must be unique twice, or too many fields; EINVAL: malformed, or a root without a
/// lock; ENOENT: a root whose element type does not exist; EFAULT: a struct of the right name and wrong size or
/// alignment; ELOOP: roots that own each other.
Status check_struct_fields(const Btf& btf);

}  // namespace skep
