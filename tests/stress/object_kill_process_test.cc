// SPDX-License-Identifier: Apache-2.0
//
// Kinds whose entries are kept in arrays and hashes of words (devices, CPUs, sockets), and BLOOM_FILTER: four processes
// change one map of each, one of them is killed at a random moment and replaced, again and again. Whoever survives
// finds what the dead had finished, and of what it was at either the old or the new.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "memory/test_repeats.h"
#include "shared_map.h"

namespace skep::stress {
namespace {

[[maybe_unused]] const auto* const environment = ::testing::AddGlobalTestEnvironment(new TemporaryInstance);

constexpr uint32_t kProcesses = 4;
constexpr uint32_t kKeys = 64;
constexpr uint64_t kNone = 0;
constexpr uint32_t kPushes = 2000;  // of each process into a filter; then again

struct Kind {
  const char* name;
  uint32_t type;
  uint32_t value_size;
  uint32_t max_entries;
  [[nodiscard]] bool is_filter() const { return type == BPF_MAP_TYPE_BLOOM_FILTER; }
  [[nodiscard]] bool of_sockets() const { return type == BPF_MAP_TYPE_SOCKMAP || type == BPF_MAP_TYPE_SOCKHASH; }
};
constexpr Kind kKinds[] = {
    {"DEVMAP", BPF_MAP_TYPE_DEVMAP, 4, kKeys},     {"DEVMAP_HASH", BPF_MAP_TYPE_DEVMAP_HASH, 4, kKeys},
    {"CPUMAP", BPF_MAP_TYPE_CPUMAP, 4, 1},         {"SOCKMAP", BPF_MAP_TYPE_SOCKMAP, 8, kKeys},
    {"SOCKHASH", BPF_MAP_TYPE_SOCKHASH, 8, kKeys}, {"BLOOM_FILTER", BPF_MAP_TYPE_BLOOM_FILTER, 8, kProcesses* kPushes},
};

/// What the processes tell the test, which outlives them. `now` is what a key's entry was after its owner's last change
/// that ended; `next` what the change under way makes of it.
struct Board {
  std::atomic<uint64_t> changes[kProcesses];
  std::atomic<uint64_t> wrong[kProcesses];
  std::atomic<uint64_t> now[kKeys], next[kKeys];
  std::atomic<uint64_t> pushed[kProcesses];  // BLOOM_FILTER: of the numbers of this process, how many
};

class ObjectKill : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    const Kind kind = GetParam();
    union bpf_attr attr = {};
    attr.map_type = kind.type;
    attr.key_size = kind.is_filter() ? 0 : 4;
    attr.value_size = kind.value_size;
    attr.max_entries = kind.max_entries;
    map_.fd = skep_bpf(BPF_MAP_CREATE, &attr, sizeof attr);
    ASSERT_GE(map_.fd, 0) << skep_last_error();
    void* memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    board_ = new (memory) Board{};
    for (size_t i = 0; kind.of_sockets() && i < sockets_.size(); ++i) {
      sockets_[i] = socket(AF_INET, SOCK_DGRAM, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(9);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      if (connect(sockets_[i], reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        GTEST_SKIP() << "no loopback device: " << strerror(errno);
    }
  }
  void TearDown() override {
    for (const int fd : sockets_) {
      if (fd >= 0) close(fd);
    }
    close(map_.fd);
    munmap(board_, sizeof(Board));
  }

  int call(int command, const void* key, const void* value, uint64_t flags = 0) const {
    union bpf_attr attr = {};
    attr.map_fd = static_cast<uint32_t>(map_.fd);
    attr.key = reinterpret_cast<uint64_t>(key);
    attr.value = reinterpret_cast<uint64_t>(value);
    attr.flags = flags;
    return skep_bpf(command, &attr, 32) < 0 ? errno : 0;
  }
  static uint64_t cookie_of(int fd) {
    uint64_t cookie = 0;
    socklen_t length = sizeof cookie;
    getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
    return cookie;
  }

  /// The entry as lookups show it; kNone where there is none.
  [[nodiscard]] uint64_t entry(uint32_t key) const {
    uint64_t value = 0;
    return call(BPF_MAP_LOOKUP_ELEM, &key, &value) == 0 ? value : kNone;
  }
  /// Puts one of the values in that the kind has, or erases. What it will be is in `next` before, in `now` afterwards.
  void change(uint32_t key, std::mt19937_64& random, uint32_t process) {
    const Kind kind = GetParam();
    uint64_t value = 1, shown = 1;
    if (kind.type == BPF_MAP_TYPE_CPUMAP) shown = value = 1 + random() % 16384;
    if (kind.of_sockets()) {
      value = static_cast<uint64_t>(sockets_[random() % sockets_.size()]);
      shown = cookie_of(static_cast<int>(value));
    }
    const bool erase = random() % 3 == 0;
    board_->next[key] = erase ? kNone : shown;
    const int error = erase ? call(BPF_MAP_DELETE_ELEM, &key, nullptr) : call(BPF_MAP_UPDATE_ELEM, &key, &value);
    // Arrays of devices and CPUs erase what is not there; the others say so.
    const bool missing = erase && board_->now[key] == kNone && (error == ENOENT || error == EINVAL);
    if (error != 0 && !missing) ++board_->wrong[process];
    board_->now[key] = board_->next[key].load();
  }
  void push(uint32_t process) {
    const uint64_t value = board_->pushed[process] % kPushes * kProcesses + process;
    if (call(BPF_MAP_UPDATE_ELEM, nullptr, &value) != 0) ++board_->wrong[process];
    ++board_->pushed[process];
  }
  /// What a process does until it is killed: the keys that are its own, and looks at the others'.
  [[noreturn]] void hammer(uint32_t process, uint64_t seed) {
    std::mt19937_64 random(seed);
    const uint32_t keys = std::min(GetParam().max_entries, kKeys);
    for (;;) {
      if (GetParam().is_filter()) {
        push(process);
      } else if (keys == 1) {
        if (process == 0) change(0, random, process);
        static_cast<void>(entry(0));
      } else {
        change(static_cast<uint32_t>(random() % (keys / kProcesses)) * kProcesses + process, random, process);
        static_cast<void>(entry(static_cast<uint32_t>(random() % keys)));
      }
      board_->changes[process].fetch_add(1, std::memory_order_relaxed);
    }
  }
  /// Compares the keys of a process that is dead, and takes them for what they are.
  void settle(uint32_t process) {
    const Kind kind = GetParam();
    for (uint64_t number = 0; kind.is_filter() && number < std::min<uint64_t>(kPushes, board_->pushed[process]);
         ++number) {
      const uint64_t value = number * kProcesses + process;
      EXPECT_EQ(call(BPF_MAP_LOOKUP_ELEM, nullptr, &value), 0) << value;
    }
    for (uint32_t key = process; !kind.is_filter() && key < std::min(kind.max_entries, kKeys); key += kProcesses) {
      const uint64_t now = board_->now[key], next = board_->next[key];
      const uint64_t found = entry(key);
      EXPECT_TRUE(found == now || found == next) << key << ": " << found << ", not " << now << " or " << next;
      board_->now[key] = board_->next[key] = found;
    }
  }

  SharedMap map_{"", 0, 0, 0};
  Board* board_ = nullptr;
  std::array<int, 3> sockets_ = {-1, -1, -1};
};

TEST_P(ObjectKill, WhatWasFinishedIsThere) {
  std::array<pid_t, kProcesses> children{};
  const auto spawn = [&](uint32_t process, uint64_t seed) {
    children[process] = fork();
    if (children[process] == 0) hammer(process, seed);
  };
  for (uint32_t i = 0; i < kProcesses; ++i) spawn(i, i + 1);
  std::mt19937_64 random(11);
  const auto kills = static_cast<uint32_t>(testing::repeats(GetParam().of_sockets() ? 15 : 30));
  for (uint32_t number = 0; number < kills && !HasFailure(); ++number) {
    usleep(static_cast<useconds_t>(random() % 3000));
    const auto victim = static_cast<uint32_t>(random() % kProcesses);
    kill(children[victim], SIGKILL);
    int status = 0;
    waitpid(children[victim], &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "a process ended by itself, status " << status;
    settle(victim);
    spawn(victim, 100 + number);
  }
  // Every process has come to something, the last ones too.
  for (uint32_t i = 0; i < kProcesses; ++i) {
    const uint64_t before = board_->changes[i];
    for (int waited = 0; waited < 5000 && board_->changes[i] == before; ++waited) usleep(1000);
    EXPECT_GT(board_->changes[i], before);
  }
  for (const pid_t child : children) kill(child, SIGKILL);
  for (const pid_t child : children) waitpid(child, nullptr, 0);
  for (uint32_t i = 0; i < kProcesses; ++i) {
    settle(i);
    EXPECT_EQ(board_->wrong[i], 0U);
  }
  EXPECT_EQ(map_.check(), "");
}

INSTANTIATE_TEST_SUITE_P(EveryKind, ObjectKill, ::testing::ValuesIn(kKinds), [](const auto& parameter) {
  std::string name = parameter.param.name;
  std::erase(name, '_');
  return name;
});

}  // namespace
}  // namespace skep::stress
