// SPDX-License-Identifier: Apache-2.0
//
// Maps whose entries are objects of the kernel: devices, CPUs, sockets, cgroups; and those that only programs or
// attachments fill. The same scenarios on the kernel and on skep, in a network namespace of the test's own.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <skep/bpf.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <random>

#include "machine/kernel_objects.h"
#include "object/temporary_instance.h"
#include "object_session.h"
#include "prog/assembler.h"

namespace skep::oracle {
namespace {

using namespace assembler;
using Bytes = ObjectSession::Bytes;
using Scenario = std::function<void(ObjectSession&)>;

Bytes word(uint32_t value) { return ObjectSession::bytes(value); }
Bytes wide(uint64_t value) { return ObjectSession::bytes(value); }
Bytes pair(uint32_t first, int second) {
  const uint32_t both[2] = {first, static_cast<uint32_t>(second)};
  return ObjectSession::bytes(both);
}

/// A descriptor that is closed with its owner.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { reset(); }
  void reset() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_ = -1;
};

uint64_t cookie_of(int fd) {
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
  return cookie;
}

sockaddr_in loopback(uint16_t port = 0) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// A socket in one of the states that sockets have; `more` keeps its other ends open.
struct Socket {
  const char* name;
  Descriptor fd;
  std::vector<Descriptor> more;
};

void bind_loopback(int fd) {
  const sockaddr_in address = loopback();
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
}

sockaddr_in name_of(int fd) {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return address;
}

Socket tcp_listening(bool share = false) {
  Socket made{"tcp listening", Descriptor(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), {}};
  const int yes = 1;
  if (share) setsockopt(made.fd.get(), SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
  bind_loopback(made.fd.get());
  EXPECT_EQ(listen(made.fd.get(), 8), 0);
  return made;
}

Socket tcp_connected() {
  Socket made = tcp_listening();
  made.name = "tcp connected";
  Descriptor client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in to = name_of(made.fd.get());
  EXPECT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  Descriptor accepted(accept4(made.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  std::swap(made.fd, client);
  made.more.push_back(std::move(accepted));
  made.more.push_back(std::move(client));
  return made;
}

Socket udp(bool bound, bool connected, bool share = false) {
  Socket made{connected ? "udp connected"
              : bound   ? "udp bound"
                        : "udp fresh",
              Descriptor(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
              {}};
  const int yes = 1;
  if (share) setsockopt(made.fd.get(), SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
  if (bound) bind_loopback(made.fd.get());
  const sockaddr_in to = loopback(9);
  if (connected) {
    EXPECT_EQ(connect(made.fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  }
  return made;
}

Socket unix_pair(int type, const char* name) {
  int both[2] = {-1, -1};
  EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, both), 0);
  Socket made{name, Descriptor(both[0]), {}};
  made.more.emplace_back(both[1]);
  return made;
}

Socket plain(int family, int type, int protocol, const char* name) {
  return {name, Descriptor(socket(family, type | SOCK_CLOEXEC, protocol)), {}};
}

std::vector<Socket> all_sockets() {
  std::vector<Socket> sockets;
  sockets.push_back(tcp_listening());
  sockets.push_back(tcp_connected());
  sockets.push_back(plain(AF_INET, SOCK_STREAM, 0, "tcp fresh"));
  sockets.push_back(plain(AF_INET6, SOCK_STREAM, 0, "tcp6 fresh"));
  sockets.push_back(udp(false, false));
  sockets.push_back(udp(true, false));
  sockets.push_back(udp(false, true));
  sockets.push_back(plain(AF_INET6, SOCK_DGRAM, 0, "udp6 fresh"));
  sockets.push_back(unix_pair(SOCK_STREAM, "unix stream pair"));
  sockets.push_back(unix_pair(SOCK_DGRAM, "unix datagram pair"));
  sockets.push_back(unix_pair(SOCK_SEQPACKET, "unix packet pair"));
  sockets.push_back(plain(AF_UNIX, SOCK_STREAM, 0, "unix stream fresh"));
  sockets.push_back(plain(AF_UNIX, SOCK_DGRAM, 0, "unix datagram fresh"));
  sockets.push_back(plain(AF_NETLINK, SOCK_RAW, 0, "netlink"));
  sockets.push_back(plain(AF_PACKET, SOCK_RAW, 0, "packet"));
  sockets.push_back(plain(AF_INET, SOCK_RAW, IPPROTO_ICMP, "raw"));
  sockets.push_back(plain(AF_XDP, SOCK_RAW, 0, "xdp"));
  return sockets;
}

class ObjectOracleTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = std::make_unique<TestDirectory>();
    setenv("SKEP_DIR", directory_->path().c_str(), 1);
    own_namespace_ = unshare(CLONE_NEWNET) == 0;
    if (!own_namespace_) return;
    const Descriptor asker(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    ioctl(asker.get(), SIOCSIFFLAGS, &request);
  }
  static void TearDownTestSuite() { directory_.reset(); }

  void SetUp() override {
    if (const auto why = kernel_refuses(); !why.empty()) GTEST_SKIP() << why;
    if (!own_namespace_) GTEST_SKIP() << "no network namespace of our own";
  }

  static void compare(const Scenario& scenario) {
    ObjectSession kernel(kernel_bpf), skep(skep_bpf);
    scenario(kernel);
    scenario(skep);
    const auto& theirs = kernel.lines();
    const auto& mine = skep.lines();
    if (std::getenv("SKEP_ORACLE_PRINT") != nullptr)
      for (const std::string& line : theirs) std::printf("kernel: %s\n", line.c_str());
    ASSERT_EQ(mine.size(), theirs.size());
    for (size_t i = 0; i < mine.size(); ++i) EXPECT_EQ(mine[i], theirs[i]) << "line " << i;
  }

  static std::unique_ptr<TestDirectory> directory_;
  static bool own_namespace_;
};
std::unique_ptr<TestDirectory> ObjectOracleTest::directory_;
bool ObjectOracleTest::own_namespace_ = false;

struct Form {
  const char* name;
  uint32_t type, key_size, value_size, max_entries;
};
constexpr Form kForms[] = {
    {"devmap", BPF_MAP_TYPE_DEVMAP, 4, 4, 4},
    {"devmap wide", BPF_MAP_TYPE_DEVMAP, 4, 8, 4},
    {"devmap_hash", BPF_MAP_TYPE_DEVMAP_HASH, 4, 4, 4},
    {"devmap_hash wide", BPF_MAP_TYPE_DEVMAP_HASH, 4, 8, 4},
    {"cpumap", BPF_MAP_TYPE_CPUMAP, 4, 4, 4},
    {"cpumap wide", BPF_MAP_TYPE_CPUMAP, 4, 8, 4},
    {"xskmap", BPF_MAP_TYPE_XSKMAP, 4, 4, 4},
    {"sockmap", BPF_MAP_TYPE_SOCKMAP, 4, 4, 4},
    {"sockmap wide", BPF_MAP_TYPE_SOCKMAP, 4, 8, 4},
    {"sockhash", BPF_MAP_TYPE_SOCKHASH, 5, 4, 4},
    {"sockhash wide", BPF_MAP_TYPE_SOCKHASH, 8, 8, 4},
    {"reuseport", BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 4, 4},
    {"reuseport wide", BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 4},
    {"cgroup array", BPF_MAP_TYPE_CGROUP_ARRAY, 4, 4, 4},
    {"stack trace", BPF_MAP_TYPE_STACK_TRACE, 4, 16, 4},
    {"cgroup storage", BPF_MAP_TYPE_CGROUP_STORAGE, 16, 8, 0},
    {"cgroup storage by inode", BPF_MAP_TYPE_CGROUP_STORAGE, 8, 8, 0},
    {"percpu cgroup storage", BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 16, 8, 0},
    {"struct_ops", BPF_MAP_TYPE_STRUCT_OPS, 4, 8, 1},
};

TEST_F(ObjectOracleTest, WhatCanBeCreated) {
  compare([](ObjectSession& session) {
    for (const Form& form : kForms) {
      session.about(form.name);
      for (const uint32_t key : {0U, 1U, 3U, 4U, 5U, 8U, 12U, 16U, 17U, 512U, 513U})
        session.create(form.type, key, form.value_size, form.max_entries);
      for (const uint32_t value : {0U, 1U, 4U, 7U, 8U, 12U, 16U, 32U, 1016U, 1024U, 32768U, 32769U, 65407U, 65408U})
        session.create(form.type, form.key_size, value, form.max_entries);
      for (const uint32_t entries : {0U, 1U, 3U, 256U, 257U})
        session.create(form.type, form.key_size, form.value_size, entries);
      // BPF_F_TOKEN_FD and what came after it go other ways.
      for (uint32_t bit = 0; bit < 15; ++bit)
        session.create(form.type, form.key_size, form.value_size, form.max_entries, 1U << bit);
    }
    for (const uint32_t value : {8U, 32U, 48U, 127U * 32, 128U * 32})
      session.create(BPF_MAP_TYPE_STACK_TRACE, 4, value, 1, BPF_F_STACK_BUILD_ID);
  });
}

TEST_F(ObjectOracleTest, AnEmptyMap) {
  compare([](ObjectSession& session) {
    for (const Form& form : kForms) {
      session.about(form.name);
      const int map = session.create(form.type, form.key_size, form.value_size, form.max_entries);
      if (map < 0) continue;
      Bytes inside(form.key_size), outside(form.key_size, 0xff), last(form.key_size);
      last[0] = 3;
      for (const Bytes& key : {inside, last, outside}) {
        session.lookup(map, key, 64);
        session.erase(map, key);
        session.next_key(map, &key, form.key_size);
        session.take(map, key);
        for (const uint64_t flags : {0U, 1U, 2U, 3U, 4U, 5U, 8U, 16U}) {
          // Which of two reasons is told: docs/differences.md.
          if (form.type == BPF_MAP_TYPE_REUSEPORT_SOCKARRAY && flags == BPF_EXIST) continue;
          session.update(map, key, Bytes(16, 0xff), flags);
        }
        session.update(map, key, Bytes(16, 0xff), uint64_t{1} << 32);
      }
      session.next_key(map, nullptr, form.key_size);
      for (const uint32_t command :
           {BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_AND_DELETE_BATCH, BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH})
        session.batch(command, map);
      session.freeze(map);
      session.update(map, inside, Bytes(16, 0xff));
      session.erase(map, inside);
      session.lookup(map, inside, 64);
    }
  });
}

TEST_F(ObjectOracleTest, AccessModes) {
  compare([](ObjectSession& session) {
    for (const Form& form : kForms) {
      for (const uint32_t mode : {uint32_t{BPF_F_RDONLY}, uint32_t{BPF_F_WRONLY}}) {
        session.about(form.name);
        const int map = session.create(form.type, form.key_size, form.value_size, form.max_entries, mode);
        if (map < 0) continue;
        const Bytes key(form.key_size);
        session.lookup(map, key, 64);
        session.update(map, key, Bytes(16, 0xff));
        session.erase(map, key);
        session.next_key(map, nullptr, form.key_size);
        session.take(map, key);
      }
    }
  });
}

TEST_F(ObjectOracleTest, Devices) {
  compare([](ObjectSession& session) {
    for (const Form& form : kForms) {
      if (form.type != BPF_MAP_TYPE_DEVMAP && form.type != BPF_MAP_TYPE_DEVMAP_HASH) continue;
      session.about(form.name);
      const int map = session.create(form.type, 4, form.value_size, 2);
      const auto value = [](uint32_t device) { return pair(device, 0); };
      for (const uint32_t key : {0U, 1U, 2U, 77U}) {
        for (const uint64_t flags : {0U, 1U, 2U, 3U}) {
          session.update(map, word(key), value(1), flags);
          session.update(map, word(key), value(12345), flags);
          session.lookup(map, word(key), form.value_size);
        }
      }
      session.update(map, word(0), value(0));
      session.lookup(map, word(0), form.value_size);
      session.update(map, word(0), value(0), BPF_EXIST);
      session.erase(map, word(1));
      session.erase(map, word(1));
      session.lookup(map, word(1), form.value_size);
      for (const uint32_t device : {0x7fffffffU, 0x80000000U, 0xffffffffU}) session.update(map, word(0), value(device));
    }
  });
}

TEST_F(ObjectOracleTest, ADeviceThatGoesAway) {
  if (std::system("ip link add skepveth0 type veth peer name skepveth1 2>/dev/null") != 0)
    GTEST_SKIP() << "no virtual devices here";
  std::system("ip link del skepveth0");
  compare([](ObjectSession& session) {
    for (const uint32_t type : {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH}) {
      session.about("type " + std::to_string(type));
      ASSERT_EQ(std::system("ip link add skepveth0 type veth peer name skepveth1"), 0);
      const Bytes device = word(if_nametoindex("skepveth0"));
      const int map = session.create(type, 4, 4, 1);
      session.update(map, word(0), device);
      session.lookup(map, word(0), 4, device);
      ASSERT_EQ(std::system("ip link del skepveth0"), 0);
      session.lookup(map, word(0), 4, device);
      if (type == BPF_MAP_TYPE_DEVMAP_HASH) session.update(map, word(0), word(1), BPF_NOEXIST);
      session.erase(map, word(0));
      session.update(map, word(5), word(1));
      ASSERT_EQ(std::system("ip link add skepveth0 type veth peer name skepveth1"), 0);
      session.update(map, word(0), word(if_nametoindex("skepveth0")));
      ASSERT_EQ(std::system("ip link del skepveth0"), 0);
      session.erase(map, word(0));
      session.lookup(map, word(5), 4);
    }
  });
}

TEST_F(ObjectOracleTest, Cpus) {
  compare([](ObjectSession& session) {
    session.about("cpumap");
    const int map = session.create(BPF_MAP_TYPE_CPUMAP, 4, 4, 128);
    for (const uint32_t cpu : {0U, 100U, 127U, 128U}) {
      for (const uint32_t queue : {0U, 1U, 16384U, 16385U, 0xffffffffU}) {
        for (const uint64_t flags : {0U, 1U, 2U}) session.update(map, word(cpu), word(queue), flags);
        session.lookup(map, word(cpu), 4);
      }
      session.erase(map, word(cpu));
      session.erase(map, word(cpu));
      session.lookup(map, word(cpu), 4);
    }
  });
}

TEST_F(ObjectOracleTest, ProgramsBesideDevicesAndCpus) {
  compare([](ObjectSession& session) {
    session.about("programs");
    const std::vector<bpf_insn> pass = assemble({mov(r0, 2), exit_()});
    constexpr uint32_t kDevmap = 33, kCpumap = 35;
    const int for_device = session.load(BPF_PROG_TYPE_XDP, pass, kDevmap);
    const int for_cpu = session.load(BPF_PROG_TYPE_XDP, pass, kCpumap);
    const int plain_xdp = session.load(BPF_PROG_TYPE_XDP, pass);
    const int filter = session.load(BPF_PROG_TYPE_SOCKET_FILTER, pass);
    session.about("run of a program that is not for test runs");
    session.run_packet(for_device);
    session.run_packet(for_cpu);
    for (const uint32_t type : {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH, BPF_MAP_TYPE_CPUMAP}) {
      session.about("type " + std::to_string(type));
      const int map = session.create(type, 4, 8, 2);
      for (const int fd : {-1, 0, 9999, for_device, for_cpu, plain_xdp, filter, map}) {
        session.update(map, word(0), pair(1, fd));
        session.update(map, word(0), pair(0, fd));
      }
      session.update(map, word(1), pair(12345, for_device));
      session.update(map, word(1), pair(99999, for_cpu));
    }
  });
}

TEST_F(ObjectOracleTest, WhichSocketsAreTaken) {
  compare([](ObjectSession& session) {
    for (const Form& form : kForms) {
      const bool sockets = form.type == BPF_MAP_TYPE_XSKMAP || form.type == BPF_MAP_TYPE_SOCKMAP ||
                           form.type == BPF_MAP_TYPE_SOCKHASH || form.type == BPF_MAP_TYPE_REUSEPORT_SOCKARRAY;
      if (!sockets) continue;
      const int map = session.create(form.type, form.key_size, form.value_size, 4);
      Bytes key(form.key_size);
      for (Socket& socket : all_sockets()) {
        session.about(std::string(form.name) + ", " + socket.name);
        ASSERT_GE(socket.fd.get(), 0) << socket.name;
        const Bytes cookie = wide(cookie_of(socket.fd.get()));
        session.update(map, key, wide(static_cast<uint64_t>(socket.fd.get())));
        session.lookup(map, key, form.value_size, cookie);
        socket.fd.reset();
        if (std::strcmp(socket.name, "unix stream pair") != 0) session.lookup(map, key, form.value_size, cookie);
        session.erase(map, key);
      }
      session.about(form.name);
      const Descriptor file(open("/dev/null", O_RDONLY | O_CLOEXEC)), path(open("/", O_PATH | O_CLOEXEC));
      for (const int fd : {file.get(), path.get(), 9999, -1})
        session.update(map, key, wide(static_cast<uint64_t>(static_cast<uint32_t>(fd))));
      session.update(map, key, wide(uint64_t{1} << 32));
    }
  });
}

TEST_F(ObjectOracleTest, SocketsThatAreThereAndNot) {
  compare([](ObjectSession& session) {
    for (const uint32_t type : {BPF_MAP_TYPE_SOCKMAP, BPF_MAP_TYPE_SOCKHASH}) {
      session.about("type " + std::to_string(type));
      const int map = session.create(type, 4, 8, 2);
      const Socket first = tcp_listening(), second = tcp_listening(), third = tcp_listening();
      const auto value = [](const Socket& socket) { return wide(static_cast<uint64_t>(socket.fd.get())); };
      for (const uint64_t flags : {2U, 1U, 1U, 2U, 3U, 4U, 0U}) session.update(map, word(0), value(first), flags);
      for (const uint64_t flags : {2U, 0U, 1U}) session.update(map, word(1), value(second), flags);
      for (const uint64_t flags : {0U, 1U, 2U, 3U}) session.update(map, word(2), value(third), flags);
      session.update(map, word(1), value(third));
      session.lookup(map, word(1), 8, wide(cookie_of(third.fd.get())));
      session.erase(map, word(0));
      session.erase(map, word(0));
      session.erase(map, word(2));
      const Bytes none = word(9);
      session.next_key(map, &none, 4);
    }
  });
}

TEST_F(ObjectOracleTest, ClosedSocketsMakeRoom) {
  compare([](ObjectSession& session) {
    const int map = session.create(BPF_MAP_TYPE_SOCKHASH, 4, 8, 2);
    Socket sockets[] = {tcp_listening(), tcp_listening(), tcp_listening(), tcp_connected()};
    const auto value = [](const Socket& socket) { return wide(static_cast<uint64_t>(socket.fd.get())); };
    for (uint32_t i = 0; i < 3; ++i) session.update(map, word(i), value(sockets[i]));
    sockets[0].fd.reset();
    session.update(map, word(0), value(sockets[2]), BPF_EXIST);
    session.update(map, word(3), value(sockets[3]));
    session.lookup(map, word(3), 8, wide(cookie_of(sockets[3].fd.get())));
    sockets[3].more.clear();
    session.lookup(map, word(3), 8, wide(cookie_of(sockets[3].fd.get())));
    session.note(std::to_string(sockets[3].fd.get() >= 0));
  });
}

TEST_F(ObjectOracleTest, ReuseportGroups) {
  compare([](ObjectSession& session) {
    const int map = session.create(BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, 4, 8, 3);
    Socket listening = tcp_listening(true), bound = udp(true, false, true), fresh = udp(false, false, true);
    const auto value = [](const Socket& socket) { return wide(static_cast<uint64_t>(socket.fd.get())); };
    session.about("fresh");
    session.update(map, word(0), value(fresh));
    session.about("listening");
    session.update(map, word(0), value(listening), BPF_EXIST);
    session.update(map, word(0), value(listening), BPF_NOEXIST);
    session.update(map, word(0), value(listening), BPF_NOEXIST);
    session.update(map, word(0), value(listening));
    session.update(map, word(1), value(listening));
    session.lookup(map, word(0), 8, wide(cookie_of(listening.fd.get())));
    session.about("bound");
    session.update(map, word(0), value(bound), BPF_NOEXIST);
    session.update(map, word(0), value(bound), BPF_EXIST);
    session.lookup(map, word(0), 8, wide(cookie_of(bound.fd.get())));
    session.update(map, word(2), value(listening));
    session.update(map, word(3), value(listening));
    bound.fd.reset();
    session.lookup(map, word(0), 8);
    session.erase(map, word(0));
    session.erase(map, word(2));
  });
}

TEST_F(ObjectOracleTest, AfXdpSockets) {
  compare([](ObjectSession& session) {
    const int map = session.create(BPF_MAP_TYPE_XSKMAP, 4, 4, 2);
    Socket first = plain(AF_XDP, SOCK_RAW, 0, "xdp"), second = plain(AF_XDP, SOCK_RAW, 0, "xdp");
    if (first.fd.get() < 0) return;
    const auto value = [](const Socket& socket) { return word(static_cast<uint32_t>(socket.fd.get())); };
    for (const uint64_t flags : {2U, 1U, 1U, 2U, 0U, 3U}) session.update(map, word(0), value(first), flags);
    session.update(map, word(0), value(second), BPF_NOEXIST);
    session.update(map, word(2), value(second));
    const int program =
        session.load(BPF_PROG_TYPE_XDP,
                     assemble({load_map(r1, static_cast<uint32_t>(map)), mov(r2, 0), mov(r3, 1), call(51), exit_()}));
    session.run_packet(program);
    if (!socket_exists(1, kXdpSockets)) {  // the kernel can tell which AF_XDP sockets there are
      first.fd.reset();
      session.run_packet(program);
      session.update(map, word(0), value(second), BPF_NOEXIST);
    }
    session.erase(map, word(0));
    session.erase(map, word(0));
    session.run_packet(program);
  });
}

// A program may read a device's entry: its number, and the program beside it.
TEST_F(ObjectOracleTest, ProgramsReadDevices) {
  compare([](ObjectSession& session) {
    for (const uint32_t type : {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH}) {
      const int map = session.create(type, 4, 8, 2);
      session.flags_of(map);
      session.update(map, word(1), pair(1, 0));
      for (const int32_t key : {0, 1, 2}) {
        session.about("type " + std::to_string(type) + " key " + std::to_string(key));
        session.run_packet(session.load(BPF_PROG_TYPE_XDP, assemble({
                                                               store(kW, r10, -4, key),
                                                               load_map(r1, static_cast<uint32_t>(map)),
                                                               mov(r2, r10),
                                                               add(r2, -4),
                                                               call(1),
                                                               jump_if(kJeq, r0, 0, 3),
                                                               load(kW, r1, r0, 0),
                                                               load(kW, r0, r0, 4),
                                                               add(r0, r1),
                                                               exit_(),
                                                           })));
      }
    }
  });
}

TEST_F(ObjectOracleTest, RedirectVerdicts) {
  compare([](ObjectSession& session) {
    for (const uint32_t type : {BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH, BPF_MAP_TYPE_CPUMAP}) {
      const int map = session.create(type, 4, 4, 2);
      session.update(map, word(1), word(1));
      for (const int32_t key : {0, 1, 2, -1}) {
        for (const int32_t flags : {0, 1, 2, 3, 4, 8, 10, 16, 24, 27, 32}) {
          session.about("type " + std::to_string(type) + " key " + std::to_string(key) + " flags " +
                        std::to_string(flags));
          session.run_packet(session.load(
              BPF_PROG_TYPE_XDP,
              assemble({load_map(r1, static_cast<uint32_t>(map)), mov(r2, key), mov(r3, flags), call(51), exit_()})));
        }
      }
    }
    for (const uint32_t type : {BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_SCHED_CLS}) {
      for (const int32_t flags : {0, 1, 2, 3}) {
        session.about("redirect, type " + std::to_string(type) + " flags " + std::to_string(flags));
        session.run_packet(session.load(type, assemble({mov(r1, 1), mov(r2, flags), call(23), exit_()})));
      }
    }
  });
}

TEST_F(ObjectOracleTest, Cgroups) {
  const char* mount = nullptr;
  for (const char* path : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"})
    if (mount == nullptr && access((std::string(path) + "/cgroup.procs").c_str(), F_OK) == 0) mount = path;
  if (mount == nullptr) GTEST_SKIP() << "no unified cgroup hierarchy";
  const std::string child = std::string(mount) + "/skep-oracle-" + std::to_string(getpid());
  if (mkdir(child.c_str(), 0700) != 0) GTEST_SKIP() << "no cgroups can be made";
  compare([&](ObjectSession& session) {
    session.about("cgroup array");
    const int map = session.create(BPF_MAP_TYPE_CGROUP_ARRAY, 4, 4, 4);
    const Descriptor root(open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const Descriptor below(open(child.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const Descriptor file(open((child + "/cgroup.procs").c_str(), O_RDONLY | O_CLOEXEC));
    const Descriptor other(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto value = [](const Descriptor& fd) { return word(static_cast<uint32_t>(fd.get())); };
    session.update(map, word(0), value(root));
    session.update(map, word(1), value(below));
    session.update(map, word(2), value(file));
    session.update(map, word(2), value(other));
    for (const uint64_t flags : {1U, 2U, 3U}) session.update(map, word(0), value(root), flags);
    session.update(map, word(4), value(root));
    session.lookup(map, word(0), 4);
    for (const int32_t index : {0, 1, 2, 3, 4, -1}) {
      session.about("under cgroup " + std::to_string(index));
      session.run_packet(session.load(BPF_PROG_TYPE_SCHED_CLS, assemble({load_map(r1, static_cast<uint32_t>(map)),
                                                                         mov(r2, index), call(37), exit_()})));
      session.run_packet(session.load(BPF_PROG_TYPE_SCHED_CLS, assemble({load_map(r2, static_cast<uint32_t>(map)),
                                                                         mov(r3, index), call(33), exit_()})));
    }
    session.erase(map, word(0));
    session.erase(map, word(0));
    session.erase(map, word(4));
  });
  rmdir(child.c_str());
}

TEST_F(ObjectOracleTest, Stacks) {
  compare([](ObjectSession& session) {
    for (const uint32_t flags : {0U, uint32_t{BPF_F_STACK_BUILD_ID}}) {
      for (const int32_t how : {256, 256 | 512, 256 | 1024, 256 | 2048, 256 | 4096, 256 | 255, 8192}) {
        // One for each: what is no frame pointer leads to other stacks each time, which may share a number.
        const int map = session.create(BPF_MAP_TYPE_STACK_TRACE, 4, flags != 0 ? 320 : 80, 4, flags);
        session.about("get_stackid " + std::to_string(how));
        const int program =
            session.load(BPF_PROG_TYPE_RAW_TRACEPOINT,
                         assemble({load_map(r2, static_cast<uint32_t>(map)), mov(r3, how), call(27), exit_()}));
        const int number = session.run_raw(program);
        session.note(number >= 0 ? "a number below 4: " + std::to_string(number < 4) : std::to_string(number));
        if (number < 0) continue;
        session.erase(map, word(4));
        session.note("taken: " + std::to_string(session.take(map, word(99))));
      }
    }
    for (const int32_t how : {256, 256 | 2048, 2048, 4096, 256 | 255}) {
      for (const int32_t size : {0, 8, 12, 32}) {
        session.about("get_stack " + std::to_string(how) + " of " + std::to_string(size));
        const int program = session.load(
            BPF_PROG_TYPE_RAW_TRACEPOINT,
            assemble({store(kDw, r10, -8, 0), store(kDw, r10, -16, 0), store(kDw, r10, -24, 0), store(kDw, r10, -32, 0),
                      mov(r2, r10), add(r2, -32), mov(r3, size), mov(r4, how), call(67), exit_()}));
        const int got = session.run_raw(program);
        // How many frames are found is another matter: the kernel follows frame pointers.
        session.note(got >= 8 ? "whole frames: " + std::to_string(got % 8 == 0) : std::to_string(got));
      }
    }
  });
}

/// What can be put into a map of a kind: by the number under which both sides know it.
struct Pool {
  std::vector<Bytes> values;
  std::vector<Bytes> shown;  // by lookups, in place of the value
  std::vector<Socket> sockets;
  std::vector<Descriptor> files;
};

Pool pool_for(const Form& form, ObjectSession& session) {
  Pool pool;
  const auto add_socket = [&](Socket socket) {
    pool.values.push_back(wide(static_cast<uint64_t>(socket.fd.get())));
    pool.shown.push_back(wide(cookie_of(socket.fd.get())));
    pool.sockets.push_back(std::move(socket));
  };
  switch (form.type) {
    case BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE_DEVMAP_HASH:
      pool.values = {pair(0, 0), pair(1, 0), pair(1, 0), pair(12345, 0)};
      break;
    case BPF_MAP_TYPE_CPUMAP:
      pool.values = {pair(0, 0), pair(192, 0), pair(16384, 0), pair(16385, 0)};
      break;
    case BPF_MAP_TYPE_XSKMAP:
      for (int i = 0; i < 3; ++i) add_socket(plain(AF_XDP, SOCK_RAW, 0, "xdp"));
      break;
    case BPF_MAP_TYPE_SOCKMAP:
    case BPF_MAP_TYPE_SOCKHASH:
      for (int i = 0; i < 2; ++i) add_socket(tcp_listening());
      add_socket(tcp_connected());
      add_socket(udp(false, true));
      add_socket(udp(false, false));
      break;
    case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY:
      for (int i = 0; i < 3; ++i) add_socket(udp(true, false, true));
      add_socket(tcp_listening(true));
      add_socket(udp(true, false));
      break;
    case BPF_MAP_TYPE_PROG_ARRAY:
      for (const uint32_t type : {BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_SCHED_CLS})
        pool.values.push_back(wide(static_cast<uint64_t>(session.load(type, assemble({mov(r0, 2), exit_()})))));
      break;
    default:
      for (const char* path : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/"}) {
        pool.files.emplace_back(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        pool.values.push_back(wide(static_cast<uint64_t>(static_cast<uint32_t>(pool.files.back().get()))));
      }
  }
  return pool;
}

/// Everything that clients do to such maps, at random, and what redirecting programs then find.
TEST_F(ObjectOracleTest, RandomElements) {
  const char* seed_text = std::getenv("SKEP_ORACLE_SEED");
  const unsigned seed = seed_text != nullptr ? static_cast<unsigned>(std::atoi(seed_text)) : std::random_device{}();
  SCOPED_TRACE("SKEP_ORACLE_SEED=" + std::to_string(seed));
  std::vector<Form> forms(std::begin(kForms), std::end(kForms));
  forms.push_back({"program array", BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4});
  for (const Form& form : forms) {
    const bool storage = form.max_entries == 0 || form.type == BPF_MAP_TYPE_STRUCT_OPS;
    if (storage || form.type == BPF_MAP_TYPE_STACK_TRACE) continue;  // not for clients to fill
    const bool hash = form.type == BPF_MAP_TYPE_DEVMAP_HASH || form.type == BPF_MAP_TYPE_SOCKHASH;
    const bool redirects = form.type == BPF_MAP_TYPE_DEVMAP || form.type == BPF_MAP_TYPE_DEVMAP_HASH ||
                           form.type == BPF_MAP_TYPE_CPUMAP || form.type == BPF_MAP_TYPE_XSKMAP;
    compare([&](ObjectSession& session) {
      std::mt19937 random(seed);
      session.about(form.name);
      const int map = session.create(form.type, form.key_size, form.value_size, form.max_entries);
      const Pool pool = pool_for(form, session);
      std::vector<int> programs;
      for (int32_t key = 0; redirects && key < 5; ++key) {
        programs.push_back(session.load(BPF_PROG_TYPE_XDP, assemble({load_map(r1, static_cast<uint32_t>(map)),
                                                                     mov(r2, key), mov(r3, 1), call(51), exit_()})));
      }
      std::vector<Bytes> inside(8);  // what lookups of each key show
      for (int step = 0; step < 150; ++step) {
        const auto number = static_cast<uint32_t>(random() % 6);
        Bytes key(form.key_size);
        key[0] = static_cast<uint8_t>(number);
        const size_t chosen = random() % pool.values.size();
        const uint64_t flags = random() % 3 == 0 ? random() % 5 : 0;
        const bool nothing = random() % 12 == 0;
        switch (random() % 8) {
          case 0:
          case 1:
          case 2:
            // Which of two reasons is told: docs/differences.md.
            if (form.type == BPF_MAP_TYPE_REUSEPORT_SOCKARRAY && (nothing || chosen == 4) && flags != 0) break;
            session.about(std::string(form.name) + " step " + std::to_string(step) + " value " +
                          std::to_string(nothing ? -1 : static_cast<int>(chosen)));
            if (session.update(map, key, nothing ? wide(0xffffffff) : pool.values[chosen], flags) == 0)
              inside[number] = chosen < pool.shown.size() ? pool.shown[chosen] : Bytes();
            break;
          case 3:
            session.erase(map, key);
            break;
          case 4:
            if (!hash) session.next_key(map, &key, form.key_size);
            break;
          case 5:
            if (random() % 10 == 0) session.take(map, key);
            break;
          case 6:
            if (redirects && number < 5) session.run_packet(programs[number]);
            break;
          default:
            // What a lookup of a program gives is its id, each side's own.
            if (form.type != BPF_MAP_TYPE_PROG_ARRAY) session.lookup(map, key, form.value_size, inside[number]);
        }
      }
      session.freeze(map);
      for (uint32_t number = 0; number < 6; ++number) {
        Bytes key(form.key_size);
        key[0] = static_cast<uint8_t>(number);
        if (form.type != BPF_MAP_TYPE_PROG_ARRAY) session.lookup(map, key, form.value_size, inside[number]);
        session.erase(map, key);
      }
    });
  }
}

// What a program that may sleep cannot have.
TEST_F(ObjectOracleTest, SleepablePrograms) {
  compare([](ObjectSession& session) {
    for (const Form& form : kForms) {
      session.about(form.name);
      const int map = session.create(form.type, form.key_size, form.value_size, form.max_entries);
      if (map < 0) continue;
      session.load(BPF_PROG_TYPE_SYSCALL, assemble({load_map(r1, static_cast<uint32_t>(map)), mov(r0, 0), exit_()}));
    }
  });
}

}  // namespace
}  // namespace skep::oracle
