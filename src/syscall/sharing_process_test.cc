// SPDX-License-Identifier: Apache-2.0
// Descriptors that other processes inherit, receive or re-open, and objects whose makers die.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <thread>

#include "syscall/two_faces.h"

namespace skep {
namespace {

class SharingTest : public TwoFaces {
 protected:
  static int call(Process& process, int cmd, bpf_attr attr) { return bpf(process, cmd, &attr, sizeof attr); }
  static int put(Process& process, int fd, uint32_t key, uint64_t value) {
    return call(process, BPF_MAP_UPDATE_ELEM, element_attr(fd, &key, &value));
  }
  static int64_t get(Process& process, int fd, uint32_t key) {
    uint64_t value = 0;
    const int error = call(process, BPF_MAP_LOOKUP_ELEM, element_attr(fd, &key, &value));
    return error < 0 ? error : static_cast<int64_t>(value);
  }
  static int make_map(Process& process) { return call(process, BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_HASH, 4, 8, 64)); }
  static int first_id(Process& process) {
    bpf_attr attr = no_attr();
    const int error = bpf(process, BPF_MAP_GET_NEXT_ID, &attr, sizeof attr);
    return error < 0 ? error : static_cast<int>(attr.next_id);
  }
  std::unique_ptr<Process> second_process() { return std::make_unique<Process>(*Instance::open(directory_.path())); }

  template <class Body>
  static int in_child(Body body) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  /// What the preload library makes of close(2).
  void reported_close(int fd) {
    const FdTable::Closing closing(&process_->descriptors, static_cast<unsigned>(fd), static_cast<unsigned>(fd));
    ::close(fd);
  }
};

TEST_F(SharingTest, AForkedChildGoesOn) {
  for (const bool trusted : {false, true}) {
    if (trusted) process_->descriptors.trust();
    const int fd = make_map(*process_);
    ASSERT_EQ(put(*process_, fd, 1, 10), 0);
    EXPECT_EQ(in_child([&] {
                if (get(*process_, fd, 1) != 10 || put(*process_, fd, 2, 20) != 0) return 1;
                reported_close(fd);
                return get(*process_, fd, 1) == -EBADF ? 0 : 2;
              }),
              0);
    EXPECT_EQ(get(*process_, fd, 2), 20);
    if (trusted) {
      reported_close(fd);
    } else {
      ::close(fd);
    }
  }
}

// Threads look up, make and drop maps while the process forks: no child may find a lock that nobody will release.
TEST_F(SharingTest, ForksAmongBusyThreads) {
  std::atomic<bool> stop{false};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      while (!stop) {
        const int fd = make_map(*process_);
        (void)put(*process_, fd, 1, 1);
        (void)get(*process_, fd, 1);
        ::close(fd);
      }
    });
  const int fd = make_map(*process_);
  ASSERT_EQ(put(*process_, fd, 7, 70), 0);
  for (int i = 0; i < 50; ++i)
    ASSERT_EQ(in_child([&] {
                ::alarm(20);  // a child that waits for ever fails the test instead of stopping it
                const int own = make_map(*process_);
                return get(*process_, fd, 7) == 70 && put(*process_, own, 1, 1) == 0 ? 0 : 1;
              }),
              0);
  stop = true;
  threads.clear();
  ::close(fd);
}

TEST_F(SharingTest, ADescriptorThatIsSentIsAReference) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto other = second_process();
    const int fd = make_map(*other);
    if (put(*other, fd, 1, 10) != 0) ::_exit(1);
    char byte = 'x', control[CMSG_SPACE(sizeof(int))] = {};
    iovec data{&byte, 1};
    msghdr message{};
    message.msg_iov = &data, message.msg_iovlen = 1;
    message.msg_control = control, message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (::sendmsg(ends[1], &message, 0) != 1) ::_exit(2);
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  const int id = first_id(*process_);  // it lives in the socket
  EXPECT_GT(id, 0);
  char byte, control[CMSG_SPACE(sizeof(int))] = {};
  iovec data{&byte, 1};
  msghdr message{};
  message.msg_iov = &data, message.msg_iovlen = 1;
  message.msg_control = control, message.msg_controllen = sizeof control;
  ASSERT_EQ(::recvmsg(ends[0], &message, MSG_CMSG_CLOEXEC), 1);
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  EXPECT_EQ(get(*process_, fd, 1), 10);
  EXPECT_EQ(put(*process_, fd, 2, 20), 0);
  ::close(fd);
  EXPECT_EQ(first_id(*process_), -ENOENT);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(SharingTest, PinsOutliveTheirMakers) {
  const std::string pin = process_->instance->pin_directory() + "/kept";
  const int status = in_child([&] {
    const auto other = second_process();
    const int fd = make_map(*other);
    bpf_attr attr = no_attr();
    attr.pathname = reinterpret_cast<uint64_t>("/sys/fs/bpf/kept");
    attr.bpf_fd = static_cast<uint32_t>(fd);
    if (put(*other, fd, 1, 10) != 0 || call(*other, BPF_OBJ_PIN, attr) != 0) return 1;
    ::kill(::getpid(), SIGKILL);
    return 2;
  });
  EXPECT_EQ(status, 128 + SIGKILL);
  bpf_attr attr = no_attr();
  attr.pathname = reinterpret_cast<uint64_t>(pin.c_str());
  const int fd = call(*process_, BPF_OBJ_GET, attr);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(get(*process_, fd, 1), 10);
  char link[256] = {};
  ASSERT_GT(::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), link, sizeof link - 1), 0);
  EXPECT_NE(std::string(link).find("/bpf-map/"), std::string::npos) << link;
  ::unlink(pin.c_str());
  EXPECT_GT(first_id(*process_), 0);
  ::close(fd);
  EXPECT_EQ(first_id(*process_), -ENOENT);
}

// Processes that make, fill, share and drop maps are killed at random moments; nothing of theirs stays, and a map that
// another process holds keeps working.
TEST_F(SharingTest, MakersAreKilledAnywhere) {
  const int ours = make_map(*process_);
  const int id = first_id(*process_);
  unsigned seed = 1;
  for (int round = 0; round < 100; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      bpf_attr by_id = no_attr();
      by_id.map_id = static_cast<uint32_t>(id);
      for (uint64_t i = 0;; ++i) {
        const int fd = make_map(*process_);
        const int shared = call(*process_, BPF_MAP_GET_FD_BY_ID, by_id);
        (void)put(*process_, shared, static_cast<uint32_t>(i % 64), i);
        (void)put(*process_, fd, 1, i);
        ::close(shared);
        ::close(fd);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(::rand_r(&seed) % 4000));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ASSERT_EQ(put(*process_, ours, static_cast<uint32_t>(round % 64), 5), 0);
    ASSERT_EQ(first_id(*process_), id);
    bpf_attr attr = no_attr();
    attr.start_id = static_cast<uint32_t>(id);
    ASSERT_EQ(call(*process_, BPF_MAP_GET_NEXT_ID, attr), -ENOENT) << "round " << round;
  }
  const CheckReport report = (*process_->descriptors.share(ours))->map->check();
  EXPECT_EQ(report.problem, "");
  ::close(ours);
}

}  // namespace
}  // namespace skep
