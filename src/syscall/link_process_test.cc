// SPDX-License-Identifier: Apache-2.0
// Iterator links in several processes: read by others, kept by pins, and left behind by those who are killed.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <map>

#include "syscall/link_test_support.h"

namespace skep {
namespace {

constexpr uint32_t kKeys = 512;
constexpr char kPin[] = "/sys/fs/bpf/elements";

/// Every value tells whether it is whole: the key in both halves, and a count that both halves have.
uint64_t value_of(uint32_t key, uint32_t count) { return (uint64_t{key} << 16 | (count & 0xffff)) * 0x1'0000'0001; }
/// Of a preallocated HASH an update takes another element for the new value, and the old one may be another key's
/// before the program has read it, as on Linux. The values of per-CPU kinds are copied with their key.
bool is_whole(uint32_t key, uint64_t value, bool exact) {
  const uint64_t whose = value >> 16 & 0xffff;
  return value >> 32 == (value & 0xffffffff) && (exact ? whose == key : whose < 2 * kKeys);
}

class LinkProcessTest : public LinkTest {
 protected:
  void SetUp() override {
    LinkTest::SetUp();
    if (IsSkipped()) return;
    shared_ = static_cast<std::atomic<uint64_t>*>(
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(shared_, MAP_FAILED);
  }
  void TearDown() override {
    LinkTest::TearDown();
    if (shared_ != nullptr) ::munmap(shared_, 4096);
  }

  int big_map(Face& face, uint32_t type) { return keep(face.call(BPF_MAP_CREATE, map_attr(type, 4, 8, 2 * kKeys))); }
  /// A child with a process side of its own.
  pid_t start(const std::function<int(Face&)>& body) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    auto instance = Instance::open(directory_.path());
    if (!instance) ::_exit(100);
    Process process(*instance);
    Face face(&process);
    ::_exit(body(face));
  }
  static int finish(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  void wait_for(uint64_t count) {
    while (shared_->load() < count) ::usleep(100);
  }
  static int by_id(Face& face, int command, uint32_t id) {
    bpf_attr attr = no_attr();
    attr.link_id = id;
    const int fd = face.call(command, attr);
    if (fd >= 0) ::close(fd);
    return fd < 0 ? fd : 0;
  }
  static bpf_link_info info_of(Face& face, int link) {
    bpf_link_info info;
    std::memset(&info, 0, sizeof info);
    bpf_attr attr = no_attr();
    attr.info.bpf_fd = static_cast<uint32_t>(link);
    attr.info.info_len = sizeof info;
    attr.info.info = reinterpret_cast<uint64_t>(&info);
    EXPECT_EQ(face.call(BPF_OBJ_GET_INFO_BY_FD, attr), 0);
    return info;
  }
  static int pin(Face& face, int fd) {
    bpf_attr attr = no_attr();
    attr.bpf_fd = static_cast<uint32_t>(fd);
    attr.pathname = reinterpret_cast<uint64_t>(kPin);
    return face.call(BPF_OBJ_PIN, attr);
  }
  static int get(Face& face, uint32_t flags = 0) {
    bpf_attr attr = no_attr();
    attr.pathname = reinterpret_cast<uint64_t>(kPin);
    attr.file_flags = flags;
    return face.call(BPF_OBJ_GET, attr);
  }
  void unpin() { ASSERT_EQ(::unlink((directory_.path() + "/pins/elements").c_str()), 0); }

  /// The records of one walk, without the end's.
  std::vector<Record> records(Face& face, int link) {
    const std::string text = text_of(face, link);
    EXPECT_EQ(text.size() % sizeof(Record), 8U) << text.substr(0, 20);
    std::vector<Record> result(text.size() / sizeof(Record));
    if (!result.empty()) std::memcpy(result.data(), text.data(), result.size() * sizeof(Record));
    return result;
  }
  /// What holds for every walk over a map whose keys below kKeys are always there and whose others come and go.
  void check_walk(const std::vector<Record>& walk, bool exact = true) {
    std::map<uint32_t, int> seen;
    for (size_t i = 0; i < walk.size(); ++i) {
      EXPECT_EQ(walk[i].number, i);
      EXPECT_TRUE(is_whole(walk[i].key, walk[i].value, exact)) << walk[i].key << ": " << std::hex << walk[i].value;
      ++seen[walk[i].key];
    }
    for (const auto& [key, times] : seen) {
      EXPECT_EQ(times, 1) << key;
      EXPECT_LT(key, 2 * kKeys);
    }
    for (uint32_t key = 0; key < kKeys; ++key) EXPECT_EQ(seen.count(key), 1U) << key;
  }
  static void fill(Face& face, int target) {
    for (uint32_t key = 0; key < kKeys; ++key) {
      const uint64_t value = value_of(key, 0);
      ASSERT_EQ(face.call(BPF_MAP_UPDATE_ELEM, element_attr(target, &key, &value)), 0);
    }
  }
  /// Changes the values of the keys that stay, and inserts and erases the others, until it is killed.
  int change_for_ever(Face& face, int target, uint32_t seed) {
    for (uint32_t round = seed;; ++round) {
      const uint32_t stays = round * 7 % kKeys, goes = kKeys + round * 5 % kKeys;
      const uint64_t value = value_of(stays, round), other = value_of(goes, round);
      face.call(BPF_MAP_UPDATE_ELEM, element_attr(target, &stays, &value));
      if (round % 2 == 0) face.call(BPF_MAP_UPDATE_ELEM, element_attr(target, &goes, &other));
      if (round % 2 == 1) face.call(BPF_MAP_DELETE_ELEM, element_attr(target, &goes, nullptr));
      shared_->fetch_add(1);
    }
  }

  std::atomic<uint64_t>* shared_ = nullptr;
};

TEST_F(LinkProcessTest, AnotherProcessReadsTheIteratorInPieces) {
  Face face(process_.get());
  const int target = big_map(face, BPF_MAP_TYPE_HASH);
  fill(face, target);
  const int made = link(face, load(face, recorder()), target);
  const std::string whole = text_of(face, made);
  ASSERT_EQ(whole.size(), kKeys * sizeof(Record) + 8);
  const int reader = iterator(face, made);
  ASSERT_GE(reader, 0);
  // They share one position, as descriptors of one iterator do.
  EXPECT_EQ(finish(start([&](Face&) {
              std::string text;
              char piece[7];
              while (text.size() < 700) {
                if (::read(reader, piece, sizeof piece) != sizeof piece) return 101;
                text.append(piece, sizeof piece);
              }
              return text == whole.substr(0, 700) ? 0 : 102;
            })),
            0);
  std::string rest(whole.size(), '\0');
  const ssize_t got = ::read(reader, rest.data(), rest.size());
  ASSERT_EQ(got, static_cast<ssize_t>(whole.size() - 700));
  EXPECT_EQ(rest.substr(0, static_cast<size_t>(got)), whole.substr(700));
  EXPECT_EQ(::read(reader, rest.data(), rest.size()), 0);
}

TEST_F(LinkProcessTest, ALinkDiesWithItsLastHolder) {
  Face face(process_.get());
  uint32_t* ids = reinterpret_cast<uint32_t*>(shared_ + 1);
  const pid_t child = start([&](Face& mine) {
    const int made = link(mine, load(mine, recorder()), big_map(mine, BPF_MAP_TYPE_ARRAY));
    const bpf_link_info info = info_of(mine, made);
    ids[0] = info.id, ids[1] = info.prog_id, ids[2] = info.iter.map.map_id;
    shared_->store(1);
    for (;;) ::pause();
    return 0;
  });
  wait_for(1);
  EXPECT_EQ(by_id(face, BPF_LINK_GET_FD_BY_ID, ids[0]), 0);
  ::kill(child, SIGKILL);
  EXPECT_EQ(finish(child), -SIGKILL);
  EXPECT_EQ(by_id(face, BPF_LINK_GET_FD_BY_ID, ids[0]), -ENOENT);
  EXPECT_EQ(by_id(face, BPF_PROG_GET_FD_BY_ID, ids[1]), -ENOENT);
  EXPECT_EQ(by_id(face, BPF_MAP_GET_FD_BY_ID, ids[2]), -ENOENT);
}

TEST_F(LinkProcessTest, APinKeepsLinkProgramAndMap) {
  Face face(process_.get());
  const pid_t child = start([&](Face& mine) {
    const int target = big_map(mine, BPF_MAP_TYPE_HASH);
    fill(mine, target);
    const int made = link(mine, load(mine, recorder()), target);
    shared_->store(pin(mine, made) == 0 ? 1 : 2);
    for (;;) ::pause();
    return 0;
  });
  wait_for(1);
  ASSERT_EQ(shared_->load(), 1U);
  ::kill(child, SIGKILL);
  finish(child);
  for (const uint32_t flags : {8U, 16U}) EXPECT_EQ(get(face, flags), -EINVAL);
  const int made = get(face);
  ASSERT_GE(made, 0);
  EXPECT_EQ(::fcntl(made, F_GETFL) & O_ACCMODE, O_RDONLY);
  check_walk(records(face, made));
  const bpf_link_info info = info_of(face, made);
  unpin();
  check_walk(records(face, made));
  ::close(made);
  EXPECT_EQ(by_id(face, BPF_LINK_GET_FD_BY_ID, info.id), -ENOENT);
  EXPECT_EQ(by_id(face, BPF_PROG_GET_FD_BY_ID, info.prog_id), -ENOENT);
  EXPECT_EQ(by_id(face, BPF_MAP_GET_FD_BY_ID, info.iter.map.map_id), -ENOENT);
}

TEST_F(LinkProcessTest, WalksWhileWritersAreKilled) {
  Face face(process_.get());
  for (const uint32_t type : {BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_HASH}) {
    const int target = big_map(face, type);
    const int made = link(face, load(face, recorder()), target);
    const bool per_cpu = type == BPF_MAP_TYPE_PERCPU_HASH;
    std::vector<uint64_t> values(64);
    for (uint32_t key = 0; key < kKeys; ++key) {
      values.assign(values.size(), value_of(key, 0));
      ASSERT_EQ(face.call(BPF_MAP_UPDATE_ELEM, element_attr(target, &key, values.data())), 0);
    }
    for (uint32_t kill = 0; kill < 12; ++kill) {
      shared_->store(0);
      const pid_t writer = start([&](Face& mine) {
        if (!per_cpu) return change_for_ever(mine, target, kill * 1000);
        for (uint32_t round = 0;; ++round) {
          const uint32_t key = (round % 2) * kKeys + round * 7 % kKeys;
          std::vector<uint64_t> all(64, value_of(key, round));
          mine.call(BPF_MAP_UPDATE_ELEM, element_attr(target, &key, all.data()));
          shared_->fetch_add(1);
        }
      });
      wait_for(50);
      for (int walk = 0; walk < 3; ++walk) check_walk(records(face, made), per_cpu);
      ::kill(writer, SIGKILL);
      finish(writer);
      check_walk(records(face, made));
    }
  }
}

TEST_F(LinkProcessTest, ReadersAreKilledInTheMiddleOfWalks) {
  Face face(process_.get());
  const int target = big_map(face, BPF_MAP_TYPE_HASH), made = link(face, load(face, recorder()), target);
  fill(face, target);
  for (int kill = 0; kill < 20; ++kill) {
    shared_->store(0);
    const pid_t reader = start([&](Face& mine) {
      for (;;) {
        const int fd = iterator(mine, made);
        if (fd < 0) return 101;
        ::close(fd);
        shared_->fetch_add(1);
      }
    });
    wait_for(2);
    ::usleep(static_cast<useconds_t>(kill * 37 % 400));  // another point of a walk each time
    ::kill(reader, SIGKILL);
    EXPECT_EQ(finish(reader), -SIGKILL);
    check_walk(records(face, made));
  }
  // Nobody waits for them: a grace period ends, and so does every change.
  bpf_attr freeze = no_attr();
  freeze.map_fd = static_cast<uint32_t>(target);
  EXPECT_EQ(face.call(BPF_MAP_FREEZE, freeze), 0);
}

TEST_F(LinkProcessTest, ProgramsAreReplacedWhileOthersRead) {
  Face face(process_.get());
  const int target = big_map(face, BPF_MAP_TYPE_HASH);
  fill(face, target);
  const int first = load(face, recorder()), second = load(face, verdict(0)), made = link(face, first, target);
  std::vector<pid_t> writers;
  for (int i = 0; i < 2; ++i) {
    writers.push_back(start([&](Face& mine) {
      for (uint64_t round = 0;; ++round) {
        if (update(mine, made, round % 2 == 0 ? first : second) != 0) return 101;
        shared_->fetch_add(1);
      }
    }));
  }
  const auto text_is_of_one_program = [&] {
    const std::string text = text_of(face, made);
    EXPECT_TRUE(text.empty() || text.size() == kKeys * sizeof(Record) + 8) << text.size() << text.substr(0, 20);
  };
  for (uint64_t walk = 1; walk <= 60; ++walk) {
    wait_for(walk * 2);
    text_is_of_one_program();
  }
  for (const pid_t writer : writers) ::kill(writer, SIGKILL);
  for (const pid_t writer : writers) EXPECT_EQ(finish(writer), -SIGKILL);
  text_is_of_one_program();
  ASSERT_EQ(update(face, made, second), 0);
  EXPECT_EQ(text_of(face, made), "");
  ASSERT_EQ(update(face, made, first), 0);
  check_walk(records(face, made));
}

}  // namespace
}  // namespace skep
