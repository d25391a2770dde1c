// SPDX-License-Identifier: Apache-2.0
#include "object/entry_holds.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "object/directory_listing.h"
#include "object/link_file.h"
#include "object/object_name.h"

namespace skep {
namespace {

/// "bpf-map-12.3" in a buffer of its own.
class LinkName {
 public:
  LinkName(HeldObject held, uint32_t number) {
    std::snprintf(text_, sizeof text_, "%s.%u", ObjectName(held.kind, held.id).flat(), number);
  }
  [[nodiscard]] const char* get() const { return text_; }

 private:
  char text_[48];
};

}  // namespace

Result<EntryHolds> EntryHolds::open(Instance& instance, ObjectKind holder_kind, uint32_t holder) {
  const int base = instance.directory_fd();
  const ObjectName name(holder_kind, holder);
  FileDescriptor directory(::openat(base, name.holds(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 && errno == ENOENT) {
    if (::mkdirat(base, name.holds(), 0700) != 0 && errno != EEXIST) return fail_full(errno);
    directory = FileDescriptor(::openat(base, name.holds(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  if (directory.get() < 0) return fail(errno);
  EntryHolds holds(instance, std::move(directory));
  if (const Status shared = holds.share(); !shared) return std::unexpected(shared.error());
  return holds;
}

bool EntryHolds::try_exclusive() { return ::flock(directory_.get(), LOCK_EX | LOCK_NB) == 0; }

Status EntryHolds::share() {
  while (::flock(directory_.get(), LOCK_SH) != 0)
    if (errno != EINTR) return fail(errno);
  return {};
}

Status EntryHolds::add(HeldObject held, uint32_t hint) {
  const int base = instance_->directory_fd();
  const ObjectName object(held.kind, held.id);
  for (uint32_t number = hint;; ++number) {
    if (::linkat(base, object.path(), directory_.get(), LinkName(held, number).get(), 0) == 0) return {};
    if (errno != EEXIST) return fail_full(errno);
  }
}

bool EntryHolds::unlink_any(HeldObject held) {
  const ObjectName object(held.kind, held.id);
  for (const std::string& name : list_directory(directory_.get(), ".")) {
    const std::string_view text = name;
    const size_t dot = text.find('.');
    if (dot == std::string_view::npos || text.substr(0, dot) != object.flat()) continue;
    if (::unlinkat(directory_.get(), name.c_str(), 0) == 0) return true;
  }
  return false;
}

void EntryHolds::drop(HeldObject held, uint32_t hint) {
  if (::unlinkat(directory_.get(), LinkName(held, hint).get(), 0) != 0 && errno == ENOENT) (void)unlink_any(held);
  instance_->collect(held.kind, held.id);
}

std::map<HeldObject, uint64_t> EntryHolds::count() const {
  std::map<HeldObject, uint64_t> counts;
  for (const std::string& name : list_directory(directory_.get(), ".")) {
    if (name.find('.') == std::string::npos) continue;
    if (const auto held = parse_flat_name(name)) ++counts[{.kind = held->first, .id = held->second}];
  }
  return counts;
}

}  // namespace skep
