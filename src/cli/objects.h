// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "maps/map.h"
#include "object/instance.h"

namespace skep::cli {

/// The instance that SKEP_DIR names, or the default one; null after the reason was printed.
std::shared_ptr<Instance> open_instance();

/// Prints why `subject` failed: the sentence of this thread's last error, or the errno's.
void complain(const std::string& subject, Errno error);

/// The ids of the living objects of a kind, ascending. Removes the dead ones that it meets.
std::vector<uint32_t> living(Instance& instance, ObjectKind kind);

/// A view of a map for reading only.
Result<std::unique_ptr<Map>> open_map_by_id(Instance& instance, uint32_t id);

/// bpftool's name of the map's kind.
const char* kind_name(const Map& map);

}  // namespace skep::cli
