// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace skep::preload {

/// A new descriptor of a file in memory that holds `text`, at its beginning. Of `flags` only O_CLOEXEC counts. -1 and
/// errno when there is no room.
int open_text(std::string_view text, int flags);

/// The text of a pinned map or iterator for who opens the pin with `flags` (open(2)), `object` being open for reading
/// on it: a new descriptor, or -1 and errno: EIO as for every other pinned object; what the iterator's program failed
/// with.
int open_object_text(int object, int flags);

}  // namespace skep::preload
