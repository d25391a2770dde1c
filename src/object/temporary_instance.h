// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "memory/test_directory.h"
#include "object/instance.h"

namespace skep {

/// Gives `fd` the smallest content that is an object of that kind.
inline void fill_object(int fd, ObjectKind kind, uint32_t id) {
  FileHeader header = make_file_header(kind, 0, kPageSize);
  header.id = id;
  ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(kHeaderOffset + kPageSize)), 0);
  ASSERT_EQ(::pwrite(fd, &header, sizeof header, static_cast<off_t>(kHeaderOffset)), ssize_t{sizeof header});
}

struct NewObject {
  FileDescriptor fd;
  uint32_t id = 0;
};

/// A published object; the descriptor is its only reference.
inline NewObject make_object(Instance& instance, ObjectKind kind) {
  NewObject made;
  auto fd = instance.make_file(kind);
  EXPECT_TRUE(fd);
  if (!fd) return made;
  made.fd = *std::move(fd);
  const auto id =
      instance.publish(kind, made.fd.get(), [&](uint32_t given) { fill_object(made.fd.get(), kind, given); });
  EXPECT_TRUE(id);
  made.id = id.value_or(0);
  return made;
}

inline bool exists(const Instance& instance, const std::string& name) {
  struct stat info {};
  return ::lstat((instance.directory() + "/" + name).c_str(), &info) == 0;
}

}  // namespace skep
