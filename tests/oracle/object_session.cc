// SPDX-License-Identifier: Apache-2.0
#include "object_session.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace skep::oracle {
namespace {

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

std::string hex(const ObjectSession::Bytes& bytes) {
  std::string text;
  char two[3];
  for (const uint8_t byte : bytes) {
    std::snprintf(two, sizeof two, "%02x", byte);
    text += two;
  }
  return text;
}

}  // namespace

ObjectSession::~ObjectSession() {
  for (const int fd : descriptors_) close(fd);
}

int ObjectSession::call(int command, union bpf_attr& attr) {
  const int result = bpf_(command, &attr, sizeof attr);
  return result < 0 ? -errno : result;
}

int ObjectSession::record(const std::string& what, int result) {
  lines_.push_back(about_ + ": " + what + " -> " + std::to_string(result));
  return result;
}

int ObjectSession::create(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t max_entries, uint32_t flags) {
  union bpf_attr attr = {};
  attr.map_type = type;
  attr.key_size = key_size;
  attr.value_size = value_size;
  attr.max_entries = max_entries;
  attr.map_flags = flags;
  const int fd = call(BPF_MAP_CREATE, attr);
  if (fd >= 0) descriptors_.push_back(fd);
  char what[128];
  std::snprintf(what, sizeof what, "create type %u key %u value %u entries %u flags %x", type, key_size, value_size,
                max_entries, flags);
  record(what, fd < 0 ? fd : 0);
  return fd;
}

int ObjectSession::load(uint32_t type, const std::vector<bpf_insn>& code, uint32_t attach_type) {
  union bpf_attr attr = {};
  attr.prog_type = type;
  attr.expected_attach_type = attach_type;
  attr.insns = address(code.data());
  attr.insn_cnt = static_cast<uint32_t>(code.size());
  attr.license = address("GPL");
  if (type == BPF_PROG_TYPE_SYSCALL) attr.prog_flags = BPF_F_SLEEPABLE;
  const int fd = call(BPF_PROG_LOAD, attr);
  if (fd >= 0) descriptors_.push_back(fd);
  record("load type " + std::to_string(type), fd < 0 ? fd : 0);
  return fd;
}

int ObjectSession::update(int map, const Bytes& key, const Bytes& value, uint64_t flags) {
  union bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = address(key.data());
  attr.value = address(value.data());
  attr.flags = flags;
  return record("update " + hex(key) + " flags " + std::to_string(flags), call(BPF_MAP_UPDATE_ELEM, attr));
}

int ObjectSession::erase(int map, const Bytes& key) {
  union bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = address(key.data());
  return record("delete " + hex(key), call(BPF_MAP_DELETE_ELEM, attr));
}

int ObjectSession::lookup(int map, const Bytes& key, uint32_t value_size, const Bytes& hidden) {
  Bytes value(value_size);
  union bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = address(key.data());
  attr.value = address(value.data());
  const int result = call(BPF_MAP_LOOKUP_ELEM, attr);
  const std::string shown = result != 0 ? "" : value == hidden ? " = the one put in" : " = " + hex(value);
  return record("lookup " + hex(key) + shown, result);
}

int ObjectSession::next_key(int map, const Bytes* key, uint32_t key_size) {
  Bytes next(key_size);
  union bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = key == nullptr ? 0 : address(key->data());
  attr.next_key = address(next.data());
  const int result = call(BPF_MAP_GET_NEXT_KEY, attr);
  return record("key after " + (key == nullptr ? "none" : hex(*key)) + (result == 0 ? " = " + hex(next) : ""), result);
}

int ObjectSession::take(int map, const Bytes& key) {
  Bytes value(4096);
  union bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = address(key.data());
  attr.value = address(value.data());
  return record("lookup and delete " + hex(key), call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, attr));
}

int ObjectSession::freeze(int map) {
  union bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(map);
  return record("freeze", call(BPF_MAP_FREEZE, attr));
}

int ObjectSession::flags_of(int map) {
  bpf_map_info info = {};
  union bpf_attr attr = {};
  attr.info.bpf_fd = static_cast<uint32_t>(map);
  attr.info.info = address(&info);
  attr.info.info_len = sizeof info;
  const int result = call(BPF_OBJ_GET_INFO_BY_FD, attr);
  return record("flags " + std::to_string(info.map_flags), result);
}

int ObjectSession::batch(uint32_t command, int map) {
  Bytes keys(4096), values(4096), cursor(1024);
  union bpf_attr attr = {};
  attr.batch.map_fd = static_cast<uint32_t>(map);
  attr.batch.keys = address(keys.data());
  attr.batch.values = address(values.data());
  attr.batch.out_batch = address(cursor.data());
  attr.batch.count = 1;
  return record("batch command " + std::to_string(command), call(static_cast<int>(command), attr));
}

int ObjectSession::run_packet(int program) {
  Bytes packet(64), out(2048);
  union bpf_attr attr = {};
  attr.test.prog_fd = static_cast<uint32_t>(program);
  attr.test.data_in = address(packet.data());
  attr.test.data_size_in = static_cast<uint32_t>(packet.size());
  attr.test.data_out = address(out.data());
  attr.test.data_size_out = static_cast<uint32_t>(out.size());
  attr.test.repeat = 3;
  const int error = call(BPF_PROG_TEST_RUN, attr);
  record("run", error);
  return record("returned", static_cast<int>(attr.test.retval));
}

int ObjectSession::run_raw(int program) {
  union bpf_attr attr = {};
  attr.test.prog_fd = static_cast<uint32_t>(program);
  const int error = call(BPF_PROG_TEST_RUN, attr);
  record("run", error);
  return static_cast<int>(attr.test.retval);
}

}  // namespace skep::oracle
