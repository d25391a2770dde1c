// SPDX-License-Identifier: Apache-2.0
// The calls that walk a tree inside libc, where no interposed call of this library sees the names.

#include <dirent.h>
#include <ftw.h>
#include <limits.h>

#include <cerrno>
#include <cstring>

#include "preload/client_path.h"
#include "preload/export.h"
#include "preload/real.h"

using namespace skep::preload;

namespace {

/// A walk of this thread through the pins: the program's callback gets the names it knows. libc's callbacks have no
/// argument of their own, so the innermost walk of each thread stands here.
struct Walk {
  __nftw_func_t visit_nested = nullptr;
  __ftw_func_t visit = nullptr;
  const Walk* outer = nullptr;
};
thread_local constinit const Walk* innermost = nullptr;

class Walking {
 public:
  explicit Walking(Walk& walk) {
    walk.outer = innermost;
    innermost = &walk;
  }
  Walking(const Walking&) = delete;
  Walking& operator=(const Walking&) = delete;
  ~Walking() { innermost = innermost->outer; }
};

/// One visited file with the name and the status that bpffs would show.
struct Shown {
  char path[PATH_MAX];
  struct stat status;
  size_t name_moved;  // how much shorter the path became, modulo 2^64

  Shown(const char* real_path, const struct stat* real_status) : status(*real_status) {
    const size_t length = std::min(std::strlen(real_path), sizeof(path) - 1);
    std::memcpy(path, real_path, length);
    const size_t shown = show_as_bpffs(path, length, sizeof(path) - 1);
    path[shown] = '\0';
    name_moved = length - shown;
    if (S_ISREG(status.st_mode)) status.st_size = status.st_blocks = 0;
  }
};

int visit_nested(const char* path, const struct stat* status, int flag, struct FTW* place) {
  Shown shown(path, status);
  struct FTW shown_place = *place;
  shown_place.base -= static_cast<int>(shown.name_moved);
  return innermost->visit_nested(shown.path, &shown.status, flag, &shown_place);
}

int visit(const char* path, const struct stat* status, int flag) {
  const Shown shown(path, status);
  return innermost->visit(shown.path, &shown.status, flag);
}

}  // namespace

SKEP_TAKES int nftw(const char* name, __nftw_func_t callback, int descriptors, int flags) {
  const ClientPath path(name);
  if (path.refused()) return -1;
  if (!path.mapped()) return real::nftw(name, callback, descriptors, flags);
  Walk walk{.visit_nested = callback};
  const Walking walking(walk);
  return real::nftw(path.get(), visit_nested, descriptors, flags);
}

SKEP_TAKES int ftw(const char* name, __ftw_func_t callback, int descriptors) {
  const ClientPath path(name);
  if (path.refused()) return -1;
  if (!path.mapped()) return real::ftw(name, callback, descriptors);
  Walk walk{.visit = callback};
  const Walking walking(walk);
  return real::ftw(path.get(), visit, descriptors);
}

SKEP_TAKES int scandir(const char* name, struct dirent*** list, int (*filter)(const struct dirent*),
                       int (*compare)(const struct dirent**, const struct dirent**)) {
  const ClientPath path(name);
  return path.refused() ? -1 : real::scandir(path.get(), list, filter, compare);
}

// The 64-bit names take types of their own that are the same ones on this architecture.
SKEP_TAKES_ALSO(nftw64, nftw);
SKEP_TAKES_ALSO(ftw64, ftw);
SKEP_TAKES_ALSO(scandir64, scandir);
