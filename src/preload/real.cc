// SPDX-License-Identifier: Apache-2.0
#include "preload/real.h"

namespace skep::preload {

void resolve_real_functions() {
#define SKEP_REAL(name, ...) real::name.resolve();
#include "preload/real_functions.inc"
#undef SKEP_REAL
}

namespace {
[[gnu::constructor]] void at_load() { resolve_real_functions(); }
}  // namespace

}  // namespace skep::preload
