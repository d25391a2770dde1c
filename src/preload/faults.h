// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace skep::preload {

/// To be called before anything else installs those handlers. Puts the handler of skep's user-memory copies in front
/// for SIGSEGV and SIGBUS; idempotent. What the program has installed until then, and whatever it installs later,
/// receives every fault that is not skep's.
void take_fault_signals();

}  // namespace skep::preload
