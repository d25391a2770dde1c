// SPDX-License-Identifier: Apache-2.0
//
// Local storage of tasks, cgroups, sockets and inodes by bpf(2) on the kernel and on skep: creation, flags, what
// descriptors are keys, charges to the unit, and random operations on several owners. SKEP_ORACLE_SEED replays a run.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <skep/bpf.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "btf/btf_builder.h"
#include "memory/test_repeats.h"
#include "sample_btf.h"
#include "side.h"

namespace skep::oracle {
namespace {

constexpr uint32_t kStorages[] = {BPF_MAP_TYPE_TASK_STORAGE, BPF_MAP_TYPE_CGRP_STORAGE, BPF_MAP_TYPE_SK_STORAGE,
                                  BPF_MAP_TYPE_INODE_STORAGE};
constexpr unsigned kPidfdThread = O_EXCL;

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

int open_pidfd(pid_t task, unsigned flags = 0) { return static_cast<int>(::syscall(SYS_pidfd_open, task, flags)); }

/// What a call did: 0 or -errno, and all that it may have written.
struct Answer {
  int result;
  std::vector<uint8_t> written;
  bool operator==(const Answer&) const = default;
};

std::string text_of(const Answer& answer) {
  std::string text = std::to_string(answer.result) + " [";
  for (const uint8_t byte : answer.written) text += " " + std::to_string(byte);
  return text + " ]";
}

class StorageOracleTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // A map of each side for every element of a socket.
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    char directory[] = "/dev/shm/skep-oracle-XXXXXX";
    ASSERT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    setenv("SKEP_DIR", directory, 1);
  }
  static void TearDownTestSuite() { [[maybe_unused]] const int status = system(("rm -rf " + directory_).c_str()); }

  void SetUp() override {
    if (const std::string reason = kernel_refuses(); !reason.empty()) GTEST_SKIP() << reason;
    load(sample_btf());
  }
  void TearDown() override {
    for (const int fd : fds_) close(fd);
    if (!cgroup_.empty()) rmdir(cgroup_.c_str());
  }

  void load(const std::vector<uint8_t>& types) {
    for (int s = 0; s < 2; ++s) {
      union bpf_attr attr = {};
      attr.btf = address(types.data());
      attr.btf_size = static_cast<uint32_t>(types.size());
      btf_[s] = keep(sides_[s](BPF_BTF_LOAD, &attr, 28));
      ASSERT_GE(btf_[s], 0) << errno;
    }
  }
  int keep(int fd) {
    if (fd >= 0) fds_.push_back(fd);
    return fd;
  }

  struct Maps {
    int fds[2];
    uint32_t value_size;
  };
  static union bpf_attr shape(uint32_t type, uint32_t value_size, uint32_t value_type, uint32_t flags = 0) {
    union bpf_attr attr = {};
    attr.map_type = type;
    attr.key_size = 4;
    attr.value_size = value_size;
    attr.map_flags = BPF_F_NO_PREALLOC | flags;
    attr.btf_key_type_id = kU32;
    attr.btf_value_type_id = value_type;
    return attr;
  }
  enum class After { kClosed, kOpen, kMine };
  Maps create(union bpf_attr attr, const std::string& what, After after = After::kOpen) {
    Maps made = {{-1, -1}, attr.value_size};
    int errors[2];
    for (int s = 0; s < 2; ++s) {
      attr.btf_fd = static_cast<uint32_t>(btf_[s]);
      made.fds[s] = sides_[s](BPF_MAP_CREATE, &attr, 72);
      errors[s] = made.fds[s] < 0 ? errno : 0;
      if (after == After::kOpen) keep(made.fds[s]);
      if (after == After::kClosed && made.fds[s] >= 0) close(made.fds[s]);
    }
    EXPECT_EQ(errors[0], errors[1]) << what << " (kernel first)";
    return made;
  }
  Maps plain(uint32_t type, uint32_t flags = 0) {
    return create(shape(type, 8, kU64, flags), "a map of " + std::to_string(type));
  }
  Maps locked(uint32_t type) { return create(shape(type, 24, kLockedValue), "a map with a lock"); }

  /// The same command on both; expects equal answers and gives the kernel's.
  Answer both(int command, const Maps& maps, int owner, uint64_t flags, const std::vector<uint8_t>& value,
              const std::string& what) {
    Answer answers[2];
    for (int s = 0; s < 2; ++s) {
      std::vector<uint8_t> buffer = value;
      buffer.resize(std::max<size_t>(maps.value_size, 8), 0xee);
      union bpf_attr attr = {};
      attr.map_fd = static_cast<uint32_t>(maps.fds[s]);
      attr.key = address(&owner);
      if (command != BPF_MAP_DELETE_ELEM) attr.value = address(buffer.data());
      attr.flags = flags;
      const int result = sides_[s](command, &attr, 32);
      answers[s] = {result < 0 ? -errno : result, buffer};
    }
    EXPECT_EQ(answers[0], answers[1]) << what << ": kernel " << text_of(answers[0]) << ", skep " << text_of(answers[1]);
    return answers[0];
  }
  int lookup(const Maps& maps, int owner, const std::string& what, uint64_t flags = 0) {
    return both(BPF_MAP_LOOKUP_ELEM, maps, owner, flags, {}, "lookup of " + what).result;
  }
  int update(const Maps& maps, int owner, uint8_t value, const std::string& what, uint64_t flags = 0) {
    return both(BPF_MAP_UPDATE_ELEM, maps, owner, flags, std::vector<uint8_t>(maps.value_size, value),
                "update of " + what)
        .result;
  }
  int erase(const Maps& maps, int owner, const std::string& what) {
    return both(BPF_MAP_DELETE_ELEM, maps, owner, 0, {}, "delete of " + what).result;
  }
  /// All that can be done to an owner, with each result compared.
  void everything(const Maps& maps, int owner, const std::string& what) {
    lookup(maps, owner, what);
    erase(maps, owner, what);
    update(maps, owner, 1, what, BPF_EXIST);
    update(maps, owner, 2, what, BPF_NOEXIST);
    lookup(maps, owner, what);
    update(maps, owner, 3, what, BPF_NOEXIST);
    update(maps, owner, 4, what, BPF_EXIST);
    update(maps, owner, 5, what);
    for (const uint64_t flags : {3ULL, 4ULL, 5ULL, 6ULL, 7ULL, 8ULL, 16ULL, 1ULL << 32, 1ULL << 63}) {
      update(maps, owner, 6, what + " with flags " + std::to_string(flags), flags);
      lookup(maps, owner, what + " with flags " + std::to_string(flags), flags);
    }
    lookup(maps, owner, what);
    erase(maps, owner, what);
    lookup(maps, owner, what);
  }

  /// An owner of that kind.
  int owner_of(uint32_t type) {
    switch (type) {
      case BPF_MAP_TYPE_TASK_STORAGE:
        return keep(open_pidfd(getpid()));
      case BPF_MAP_TYPE_SK_STORAGE:
        return keep(socket(AF_INET, SOCK_STREAM, 0));
      case BPF_MAP_TYPE_CGRP_STORAGE:
        return keep(open(cgroup_mount().c_str(), O_RDONLY | O_DIRECTORY));
      default:
        return keep(open("/", O_RDONLY | O_TMPFILE, 0600)) >= 0 ? fds_.back() : keep(memfd_create("x", 0));
    }
  }
  /// Where the unified hierarchy is mounted.
  static std::string cgroup_mount() {
    const bool apart = access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) == 0;
    return apart ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
  }
  /// A cgroup of the test's own; "" where none can be made.
  const std::string& make_cgroup() {
    cgroup_ = cgroup_mount() + "/skep-oracle-" + std::to_string(getpid());
    if (mkdir(cgroup_.c_str(), 0755) != 0) cgroup_.clear();
    return cgroup_;
  }

  const BpfFunction sides_[2] = {kernel_bpf, skep_bpf};
  static inline std::string directory_;
  int btf_[2];
  std::vector<int> fds_;
  std::string cgroup_;
};

TEST_F(StorageOracleTest, Creation) {
  for (const uint32_t type : kStorages) {
    const std::string name = "type " + std::to_string(type);
    const auto attempt = [&](const std::string& what, const auto& change) {
      union bpf_attr attr = shape(type, 8, kU64);
      change(attr);
      create(attr, name + ": " + what, After::kClosed);
    };
    attempt("as it should be", [](auto&) {});
    attempt("clone", [](auto& a) { a.map_flags |= BPF_F_CLONE; });
    for (uint32_t bit = 0; bit < 20; ++bit) {
      attempt("flag " + std::to_string(bit), [&](auto& a) { a.map_flags ^= 1U << bit; });
      attempt("flag alone " + std::to_string(bit), [&](auto& a) { a.map_flags = 1U << bit; });
    }
    attempt("entries", [](auto& a) { a.max_entries = 1; });
    for (const uint32_t size : {0U, 1U, 3U, 5U, 8U})
      attempt("key size " + std::to_string(size), [&](auto& a) { a.key_size = size; });
    for (const uint32_t size : {0U, 1U, 7U, 9U, 65406U, 65407U, 65408U, 1U << 20, UINT32_MAX})
      attempt("value size " + std::to_string(size), [&](auto& a) { a.value_size = size; });
    attempt("large and untyped", [&](auto& a) { a.value_size = 65408, a.btf_value_type_id = 0; });
    attempt("no types", [](auto& a) { a.btf_key_type_id = a.btf_value_type_id = 0; });
    attempt("no key type", [](auto& a) { a.btf_key_type_id = 0; });
    attempt("no value type", [](auto& a) { a.btf_value_type_id = 0; });
    for (uint32_t key = 0; key <= kSampleTypeEnd + 1; ++key)
      attempt("key type " + std::to_string(key), [&](auto& a) { a.btf_key_type_id = key; });
    attempt("another value type", [](auto& a) { a.btf_value_type_id = kU32; });
    attempt("a lock", [](auto& a) { a.value_size = 24, a.btf_value_type_id = kLockedValue; });
    attempt("map_extra", [](auto& a) { a.map_extra = 1; });
    attempt("a device", [](auto& a) { a.map_ifindex = 1; });
  }
}

TEST_F(StorageOracleTest, KeyTypes) {
  BtfBuilder btf;
  const uint32_t u64 = btf.integer("unsigned long", 8);
  const uint32_t u32 = btf.integer("unsigned int", 4);
  const uint32_t keys[] = {u32,
                           btf.integer("int", 4, 1),
                           btf.integer("bool", 4, 4),
                           btf.integer("char", 4, 2),
                           btf.add(BtfKind::kTypedef, "t", u32),
                           btf.add(BtfKind::kConst, "", u32),
                           btf.add(BtfKind::kEnum, "e", 4, 1, false, {btf.string("one"), 0}),
                           btf.add(BtfKind::kInt, "narrow", 4, 0, false, {31}),
                           btf.add(BtfKind::kInt, "moved", 4, 0, false, {1 << 16 | 31}),
                           btf.structure("s", 4, {{"a", u32, 0}}),
                           btf.array(u32, u32, 1)};
  const auto raw = btf.raw();
  load({reinterpret_cast<const uint8_t*>(raw.data()), reinterpret_cast<const uint8_t*>(raw.data()) + raw.size()});
  for (const uint32_t type : kStorages) {
    for (const uint32_t key : keys) {
      union bpf_attr attr = shape(type, 8, u64);
      attr.btf_key_type_id = key;
      create(attr, "type " + std::to_string(type) + ", key type " + std::to_string(key), After::kClosed);
    }
  }
}

TEST_F(StorageOracleTest, AnOwnerOfEachKind) {
  for (const uint32_t type : kStorages) {
    const Maps maps = plain(type);
    const Maps with_lock = locked(type);
    const int owner = owner_of(type);
    ASSERT_GE(owner, 0);
    everything(maps, owner, "type " + std::to_string(type));
    everything(with_lock, owner, "type " + std::to_string(type) + " with a lock");
  }
}

TEST_F(StorageOracleTest, DescriptorsThatAreNoOwners) {
  const auto directory = keep(open("/", O_RDONLY | O_DIRECTORY));
  const auto file = keep(open("/proc/self/exe", O_RDONLY));
  const auto path = keep(open("/", O_PATH));
  const auto stream = keep(socket(AF_INET, SOCK_STREAM, 0));
  const auto local = keep(socket(AF_UNIX, SOCK_DGRAM, 0));
  const auto netlink = keep(socket(AF_NETLINK, SOCK_RAW, 0));
  const auto packet = keep(socket(AF_PACKET, SOCK_RAW, 0));
  const auto event = keep(eventfd(0, 0));
  const auto poll = keep(epoll_create1(0));
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  keep(pipes[0]), keep(pipes[1]);
  const auto self = keep(open_pidfd(getpid()));
  const auto root = keep(open(cgroup_mount().c_str(), O_RDONLY | O_DIRECTORY));
  const auto root_path = keep(open(cgroup_mount().c_str(), O_PATH));
  const auto procs = keep(open((cgroup_mount() + "/cgroup.procs").c_str(), O_RDONLY));
  const auto first = keep(open("/sys/fs/cgroup/cpu", O_RDONLY | O_DIRECTORY));
  const auto socket_path = keep(open(("/proc/self/fd/" + std::to_string(event)).c_str(), O_PATH));
  const struct {
    const char* name;
    int fd;
  } rows[] = {{"-1", -1},
              {"closed", 999},
              {"PIDFD_SELF_THREAD", -10000},
              {"PIDFD_SELF", -10001},
              {"INT_MIN", INT_MIN},
              {"directory", directory},
              {"file", file},
              {"path", path},
              {"stream", stream},
              {"unix", local},
              {"netlink", netlink},
              {"packet", packet},
              {"event", event},
              {"epoll", poll},
              {"pipe", pipes[0]},
              {"its other end", pipes[1]},
              {"pidfd", self},
              {"cgroup", root},
              {"cgroup path", root_path},
              {"cgroup file", procs},
              {"cgroup of the first version", first},
              {"event path", socket_path}};
  for (const uint32_t type : kStorages) {
    const Maps maps = plain(type);
    const Maps with_lock = locked(type);
    for (const auto& row : rows) {
      const std::string what = std::string(row.name) + ", type " + std::to_string(type);
      everything(maps, row.fd, what);
      lookup(with_lock, row.fd, what + " locked", BPF_F_LOCK);
      update(with_lock, row.fd, 1, what + " locked", BPF_F_LOCK | BPF_EXIST);
    }
  }
}

TEST_F(StorageOracleTest, InodesThatDescriptorsShare) {
  const Maps maps = plain(BPF_MAP_TYPE_INODE_STORAGE);
  const int one = keep(eventfd(0, 0));
  const int other = keep(eventfd(0, 0));
  update(maps, one, 7, "an eventfd");
  EXPECT_EQ(lookup(maps, other, "another eventfd"), 0);
  lookup(maps, maps.fds[0], "a map");
  lookup(maps, open_pidfd(getpid()), "a pidfd");
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  keep(pipes[0]), keep(pipes[1]);
  update(maps, pipes[0], 8, "a pipe");
  EXPECT_EQ(lookup(maps, pipes[1], "its other end"), 0);
  char name[] = "/tmp/skep-oracle-XXXXXX";
  const int file = keep(mkstemp(name));
  update(maps, file, 9, "a file");
  const int again = keep(open(name, O_RDONLY));
  EXPECT_EQ(lookup(maps, again, "the file again"), 0);
  unlink(name);
  EXPECT_EQ(lookup(maps, file, "the file without a name"), 0);
  erase(maps, one, "an eventfd");
  lookup(maps, other, "another eventfd");
}

TEST_F(StorageOracleTest, TasksLiveAndDie) {
  const Maps maps = plain(BPF_MAP_TYPE_TASK_STORAGE);
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  const int task = keep(open_pidfd(child));
  EXPECT_EQ(update(maps, task, 1, "a child"), 0);
  EXPECT_EQ(lookup(maps, keep(open_pidfd(getpid())), "the parent"), -ENOENT);
  kill(child, SIGKILL);
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_EQ(lookup(maps, task, "a zombie"), 0);
  EXPECT_EQ(update(maps, task, 2, "a zombie"), 0);
  EXPECT_EQ(lookup(maps, task, "a zombie"), 0);
  EXPECT_EQ(erase(maps, task, "a zombie"), 0);
  update(maps, task, 3, "a zombie");
  waitpid(child, nullptr, 0);
  EXPECT_EQ(lookup(maps, task, "a task that is no more"), -ENOENT);
  EXPECT_EQ(update(maps, task, 4, "a task that is no more"), -ENOENT);
  EXPECT_EQ(erase(maps, task, "a task that is no more"), -ENOENT);
}

TEST_F(StorageOracleTest, ThreadsAreTasks) {
  const Maps maps = plain(BPF_MAP_TYPE_TASK_STORAGE);
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  keep(pipes[0]), keep(pipes[1]);
  std::atomic<pid_t> number{0};
  std::thread thread([&] {
    number = static_cast<pid_t>(syscall(SYS_gettid));
    char byte;
    [[maybe_unused]] const auto got = read(pipes[0], &byte, 1);
  });
  while (number == 0) std::this_thread::yield();
  const int task = keep(open_pidfd(number, kPidfdThread));
  const int leader = keep(open_pidfd(getpid()));
  if (task >= 0) {
    update(maps, task, 1, "a thread");
    EXPECT_EQ(lookup(maps, leader, "its leader"), -ENOENT);
    EXPECT_EQ(lookup(maps, task, "a thread"), 0);
  }
  [[maybe_unused]] const auto written = write(pipes[1], "x", 1);
  thread.join();
  while (syscall(SYS_tgkill, getpid(), number.load(), 0) == 0) std::this_thread::yield();
  if (task >= 0) {
    EXPECT_EQ(lookup(maps, task, "a thread that has ended"), -ENOENT);
  }
}

TEST_F(StorageOracleTest, CgroupsLiveAndDie) {
  const Maps maps = plain(BPF_MAP_TYPE_CGRP_STORAGE);
  if (make_cgroup().empty()) GTEST_SKIP() << "no cgroup can be made here";
  const int cgroup = keep(open(cgroup_.c_str(), O_RDONLY | O_DIRECTORY));
  everything(maps, cgroup, "a cgroup");
  update(maps, cgroup, 1, "a cgroup");
  EXPECT_EQ(lookup(maps, keep(open(cgroup_mount().c_str(), O_RDONLY | O_DIRECTORY)), "the one above"), -ENOENT);
  ASSERT_EQ(rmdir(cgroup_.c_str()), 0);
  EXPECT_EQ(lookup(maps, cgroup, "one that is no more"), -ENOENT);
  EXPECT_EQ(update(maps, cgroup, 2, "one that is no more"), -ENOENT);
  EXPECT_EQ(erase(maps, cgroup, "one that is no more"), -ENOENT);
  ASSERT_EQ(mkdir(cgroup_.c_str(), 0755), 0);
  EXPECT_EQ(lookup(maps, keep(open(cgroup_.c_str(), O_RDONLY | O_DIRECTORY)), "one of the same name"), -ENOENT);
}

// As many maps as a socket may have elements, and one more. A map of each side stays open for it.
TEST_F(StorageOracleTest, SocketsAreChargedToTheUnit) {
  for (const uint32_t value_size : {256U, 1000U, 8U}) {
    BtfBuilder btf;
    btf.integer("unsigned int", 4);
    const uint32_t bytes = btf.array(btf.integer("unsigned char", 1), kU32, value_size);
    const auto raw = btf.raw();
    load({reinterpret_cast<const uint8_t*>(raw.data()), reinterpret_cast<const uint8_t*>(raw.data()) + raw.size()});
    const int one = socket(AF_INET, SOCK_DGRAM, 0);
    std::vector<Maps> maps;
    for (int result = 0; result == 0 && !HasFailure();) {
      maps.push_back(create(shape(BPF_MAP_TYPE_SK_STORAGE, value_size, bytes), "one more", After::kMine));
      ASSERT_GE(maps.back().fds[0], 0);
      result = update(maps.back(), one, 1, "map " + std::to_string(maps.size()));
    }
    std::printf("%zu elements of %u bytes\n", maps.size() - 1, value_size);
    update(maps.front(), one, 2, "a replacement at the limit");
    erase(maps.front(), one, "one");
    update(maps.front(), one, 2, "one again");
    update(maps.back(), one, 2, "one more again");
    close(one);
    for (const Maps& each : maps) {
      for (const int fd : each.fds) close(fd);
    }
  }
}

// A socket's charge is free again when its maps are gone, whether their only user closed them or was killed.
TEST_F(StorageOracleTest, MapsThatGoGiveTheirChargeBack) {
  constexpr uint32_t kSize = 1000;
  BtfBuilder btf;
  btf.integer("unsigned int", 4);
  const uint32_t bytes = btf.array(btf.integer("unsigned char", 1), kU32, kSize);
  const auto raw = btf.raw();
  load({reinterpret_cast<const uint8_t*>(raw.data()), reinterpret_cast<const uint8_t*>(raw.data()) + raw.size()});
  for (const bool killed : {false, true}) {
    const int one = socket(AF_INET, SOCK_DGRAM, 0);
    const pid_t child = fork();
    if (child == 0) {
      int result = 0;
      for (int i = 0; result == 0 && i < 1000; ++i) {
        result = update(create(shape(BPF_MAP_TYPE_SK_STORAGE, kSize, bytes), "one more"), one, 1, "one more");
      }
      if (killed) raise(SIGKILL);
      _exit(result == -ENOMEM && !HasFailure() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, killed ? SIGKILL : 0);
    const Maps maps = create(shape(BPF_MAP_TYPE_SK_STORAGE, kSize, bytes), "another");
    for (int s = 0; s < 2; ++s) {
      std::vector<uint8_t> value(kSize, 1);
      union bpf_attr attr = {};
      attr.map_fd = static_cast<uint32_t>(maps.fds[s]);
      attr.key = address(&one);
      attr.value = address(value.data());
      // The kernel frees maps by deferred work, skep has none.
      int result = 0;
      for (int attempts = 0; attempts < (s == 0 ? 10'000 : 1); ++attempts) {
        result = sides_[s](BPF_MAP_UPDATE_ELEM, &attr, 32);
        if (result == 0) break;
        usleep(1000);
      }
      EXPECT_EQ(result, 0) << (s == 0 ? "kernel " : "skep ") << errno;
    }
    erase(maps, one, "the last one");
    close(one);
  }
}

TEST_F(StorageOracleTest, CommandsThatStorageDoesNotHave) {
  for (const uint32_t type : kStorages) {
    const Maps maps = plain(type);
    const int owner = owner_of(type);
    update(maps, owner, 1, "an owner");
    for (int s = 0; s < 2; ++s) {
      const std::string what = std::string(s == 0 ? "kernel" : "skep") + ", type " + std::to_string(type);
      uint64_t value = 0;
      union bpf_attr attr = {};
      attr.map_fd = static_cast<uint32_t>(maps.fds[s]);
      attr.next_key = address(&value);
      EXPECT_EQ(sides_[s](BPF_MAP_GET_NEXT_KEY, &attr, 32), -1) << what;
      EXPECT_EQ(errno, 524) << what;
      attr.key = address(&owner);
      attr.value = address(&value);
      EXPECT_EQ(sides_[s](BPF_MAP_LOOKUP_AND_DELETE_ELEM, &attr, 32), -1) << what;
      EXPECT_EQ(errno, 524) << what;
      for (const int command :
           {BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_AND_DELETE_BATCH, BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH}) {
        union bpf_attr batch = {};
        batch.batch.map_fd = static_cast<uint32_t>(maps.fds[s]);
        batch.batch.keys = address(&owner);
        batch.batch.values = address(&value);
        batch.batch.out_batch = address(&value);
        batch.batch.count = 1;
        EXPECT_EQ(sides_[s](command, &batch, 56), -1) << what;
        EXPECT_EQ(errno, 524) << what << ", command " << command;
      }
    }
    EXPECT_EQ(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, maps.fds[0], 0), MAP_FAILED);
  }
}

TEST_F(StorageOracleTest, FrozenMapsAreReadOnly) {
  for (const uint32_t type : kStorages) {
    const Maps maps = plain(type);
    const Maps with_lock = locked(type);
    const int owner = owner_of(type);
    update(maps, owner, 1, "an owner");
    for (const Maps& each : {maps, with_lock}) {
      int results[2];
      for (int s = 0; s < 2; ++s) {
        union bpf_attr attr = {};
        attr.map_fd = static_cast<uint32_t>(each.fds[s]);
        results[s] = sides_[s](BPF_MAP_FREEZE, &attr, 4) < 0 ? errno : 0;
      }
      EXPECT_EQ(results[0], results[1]) << type;
      everything(each, owner, "frozen, type " + std::to_string(type));
    }
  }
}

TEST_F(StorageOracleTest, RandomOperations) {
  const char* given = std::getenv("SKEP_ORACLE_SEED");
  const auto seed = given != nullptr ? static_cast<unsigned>(std::atoi(given)) : std::random_device{}();
  SCOPED_TRACE("SKEP_ORACLE_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  for (const uint32_t type : kStorages) {
    std::vector<Maps> maps;
    for (int i = 0; i < 20; ++i) maps.push_back(random() % 3 == 0 ? locked(type) : plain(type));
    std::vector<int> owners;
    for (int i = 0; i < 6; ++i) owners.push_back(owner_of(type));
    owners.push_back(-1);
    const uint64_t flags[] = {
        0, 0, 0, BPF_NOEXIST, BPF_EXIST, BPF_F_LOCK, BPF_F_LOCK | BPF_EXIST, BPF_F_LOCK | BPF_NOEXIST, 7, 8};
    for (uint64_t step = 0, steps = testing::repeats(5000); step < steps && !HasFailure(); ++step) {
      const size_t map = random() % maps.size();
      const int owner = owners[random() % owners.size()];
      const std::string what = "step " + std::to_string(step) + ", type " + std::to_string(type);
      switch (random() % 4) {
        case 0:
          erase(maps[map], owner, what);
          break;
        case 1:
          lookup(maps[map], owner, what, random() % 4 == 0 ? BPF_F_LOCK : 0);
          break;
        case 2:
          if (random() % 20 != 0) break;
          for (const int fd : maps[map].fds) {
            close(fd);
            std::erase(fds_, fd);
          }
          maps[map] = random() % 3 == 0 ? locked(type) : plain(type);
          break;
        default:
          update(maps[map], owner, static_cast<uint8_t>(step), what, flags[random() % std::size(flags)]);
      }
    }
  }
}

}  // namespace
}  // namespace skep::oracle
