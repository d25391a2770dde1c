// SPDX-License-Identifier: Apache-2.0
#pragma once

// For programs that test libskep-preload.so from inside: they run themselves again with it.

#include <gtest/gtest.h>
#include <limits.h>
#include <signal.h>
#include <skep/abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

namespace skep::preloaded {

inline constexpr const char* kRoot = "/sys/fs/bpf";

inline long bpf(int command, bpf_attr& attr) { return syscall(SYS_bpf, command, &attr, sizeof(attr)); }

inline int make_map(uint32_t type = BPF_MAP_TYPE_ARRAY, uint32_t value_size = 4) {
  bpf_attr attr = {};
  attr.map_type = type;
  attr.key_size = 4;
  attr.value_size = value_size;
  attr.max_entries = 4;
  return static_cast<int>(bpf(BPF_MAP_CREATE, attr));
}

inline long pin(int fd, const std::string& path) {
  bpf_attr attr = {};
  attr.pathname = reinterpret_cast<uint64_t>(path.c_str());
  attr.bpf_fd = static_cast<uint32_t>(fd);
  return bpf(BPF_OBJ_PIN, attr);
}

inline long get(const std::string& path) {
  bpf_attr attr = {};
  attr.pathname = reinterpret_cast<uint64_t>(path.c_str());
  return bpf(BPF_OBJ_GET, attr);
}

inline long update(int map, uint32_t key, const void* value) {
  bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = reinterpret_cast<uint64_t>(&key);
  attr.value = reinterpret_cast<uint64_t>(value);
  return bpf(BPF_MAP_UPDATE_ELEM, attr);
}

inline long lookup(int map, uint32_t key, void* value) {
  bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = reinterpret_cast<uint64_t>(&key);
  attr.value = reinterpret_cast<uint64_t>(value);
  return bpf(BPF_MAP_LOOKUP_ELEM, attr);
}

inline uint32_t id_of(int fd) {
  bpf_map_info info = {};
  bpf_attr attr = {};
  attr.info.bpf_fd = static_cast<uint32_t>(fd);
  attr.info.info_len = sizeof(info);
  attr.info.info = reinterpret_cast<uint64_t>(&info);
  return bpf(BPF_OBJ_GET_INFO_BY_FD, attr) == 0 ? info.id : 0;
}

/// The errno of a call that has to fail; 0 if it does not.
template <class Result>
inline int error_of(Result result) {
  return result == static_cast<Result>(-1) ? errno : 0;
}

inline std::string read_link(const std::string& path) {
  char buffer[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), buffer, sizeof(buffer));
  return length < 0 ? "" : std::string(buffer, static_cast<size_t>(length));
}

inline std::string read_stream(FILE* stream) {
  std::string text;
  char line[256];
  while (stream != nullptr && fgets(line, sizeof(line), stream) != nullptr) text += line;
  if (stream != nullptr) fclose(stream);
  return text;
}

inline int make_ring() {
  bpf_attr attr = {};
  attr.map_type = BPF_MAP_TYPE_RINGBUF;
  attr.max_entries = 4096;
  return static_cast<int>(bpf(BPF_MAP_CREATE, attr));
}

/// An epoll set of that one descriptor.
inline int epoll_of(int fd) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {.events = EPOLLIN, .data = {}};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? epoll : -1;
}

/// Runs `function` in a child; its exit status.
template <class Function>
inline int in_child(const Function& function) {
  const pid_t child = fork();
  if (child == 0) _exit(function());
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Runs this program again with the library and a new instance; its exit status.
inline int run_preloaded(char** argv) {
  std::string directory = "/dev/shm/skep-preload-test-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) return 1;
  setenv("SKEP_DIR", directory.c_str(), 1);
  setenv("LD_PRELOAD", SKEP_PRELOAD_LIBRARY, 1);
  const int status = in_child([&] {
    execv("/proc/self/exe", argv);
    return 99;
  });
  std::filesystem::remove_all(directory);
  return status;
}

}  // namespace skep::preloaded
