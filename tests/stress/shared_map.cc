// SPDX-License-Identifier: Apache-2.0
#include "shared_map.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "maps/map.h"
#include "object/instance.h"

namespace skep::stress {
namespace {

uint32_t possible_cpus() {
  const auto instance = Instance::open(Instance::default_directory());
  return instance ? (*instance)->machine().cpus() : 0;
}

int call(int command, union bpf_attr& attr, unsigned size) { return skep_bpf(command, &attr, size) < 0 ? errno : 0; }

union bpf_attr element(int fd, const void* key, const void* value, uint64_t flags) {
  union bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(fd);
  attr.key = reinterpret_cast<uint64_t>(key);
  attr.value = reinterpret_cast<uint64_t>(value);
  attr.flags = flags;
  return attr;
}

}  // namespace

void TemporaryInstance::SetUp() {
  char directory[] = "/dev/shm/skep-stress-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  directory_ = directory;
  setenv("SKEP_DIR", directory, 1);
}

void TemporaryInstance::TearDown() { EXPECT_EQ(system(("rm -rf " + directory_).c_str()), 0); }

bool SharedMap::is_array() const { return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY; }
bool SharedMap::is_per_cpu() const { return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY; }

uint32_t SharedMap::user_value_size() const {
  static const uint32_t cpus = possible_cpus();
  return is_per_cpu() ? kValueSize * cpus : kValueSize;
}

void SharedMap::create() {
  union bpf_attr attr = {};
  attr.map_type = type;
  attr.key_size = kKeySize;
  attr.value_size = kValueSize;
  attr.max_entries = max_entries;
  attr.map_flags = flags;
  fd = skep_bpf(BPF_MAP_CREATE, &attr, sizeof attr);
  ASSERT_GE(fd, 0) << name << ": " << strerror(errno) << " " << skep_last_error();
}

int SharedMap::lookup(uint32_t key, void* value) const {
  auto attr = element(fd, &key, value, 0);
  return call(BPF_MAP_LOOKUP_ELEM, attr, 32);
}

int SharedMap::update(uint32_t key, const void* value, uint64_t update_flags) const {
  auto attr = element(fd, &key, value, update_flags);
  return call(BPF_MAP_UPDATE_ELEM, attr, 32);
}

int SharedMap::erase(uint32_t key) const {
  auto attr = element(fd, &key, nullptr, 0);
  return call(BPF_MAP_DELETE_ELEM, attr, 32);
}

int SharedMap::take(uint32_t key, void* value) const {
  auto attr = element(fd, &key, value, 0);
  return call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, attr, 32);
}

int SharedMap::next_key(const uint32_t* key, uint32_t* next) const {
  auto attr = element(fd, key, next, 0);
  return call(BPF_MAP_GET_NEXT_KEY, attr, 24);
}

int SharedMap::batch(int command, const void* in, void* out, uint32_t* keys, void* values, uint32_t* count) const {
  union bpf_attr attr = {};
  attr.batch.in_batch = reinterpret_cast<uint64_t>(in);
  attr.batch.out_batch = reinterpret_cast<uint64_t>(out);
  attr.batch.keys = reinterpret_cast<uint64_t>(keys);
  attr.batch.values = reinterpret_cast<uint64_t>(values);
  attr.batch.count = *count;
  attr.batch.map_fd = static_cast<uint32_t>(fd);
  const int error = call(command, attr, 56);
  *count = attr.batch.count;
  return error;
}

std::string SharedMap::check() const {
  const auto instance = Instance::open(Instance::default_directory());
  if (!instance) return "no instance";
  const auto map = open_map(fd, Access::kReadWrite, (*instance)->machine());
  if (!map) return std::string("the map does not open: ") + last_error_sentence();
  return (*map)->check().problem;
}

std::vector<SharedMap> all_kinds(uint32_t max_entries) {
  return {{"HASH", BPF_MAP_TYPE_HASH, 0, max_entries},
          {"HASH, no preallocation", BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, max_entries},
          {"PERCPU_HASH", BPF_MAP_TYPE_PERCPU_HASH, 0, max_entries},
          {"PERCPU_HASH, no preallocation", BPF_MAP_TYPE_PERCPU_HASH, BPF_F_NO_PREALLOC, max_entries},
          {"ARRAY", BPF_MAP_TYPE_ARRAY, 0, max_entries},
          {"PERCPU_ARRAY", BPF_MAP_TYPE_PERCPU_ARRAY, 0, max_entries},
          {"RHASH", BPF_MAP_TYPE_RHASH, BPF_F_NO_PREALLOC, max_entries}};
}

}  // namespace skep::stress
