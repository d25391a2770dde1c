// SPDX-License-Identifier: Apache-2.0
#include "machine/kernel_objects.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <linux/xdp_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

namespace skep {
namespace {

/// A socket of our own to ask through.
class Question {
 public:
  Question(int domain, int type, int protocol) : fd_(::socket(domain, type | SOCK_CLOEXEC, protocol)) {}
  ~Question() {
    if (fd_ >= 0) ::close(fd_);
  }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  const int fd_;
};

enum class Found : uint8_t { kNo, kYes, kDead, kUnknown };

/// What one message of a dump says about the socket.
template <class Message>
Found look(const Message& message, uint64_t cookie);

uint64_t cookie_of(const uint32_t (&words)[2]) { return uint64_t{words[1]} << 32 | words[0]; }

template <>
Found look(const inet_diag_msg& message, uint64_t cookie) {
  if (cookie_of(message.id.idiag_cookie) != cookie) return Found::kNo;
  return message.idiag_inode != 0 ? Found::kYes : Found::kDead;  // nobody's: only its connection is being ended
}
template <>
Found look(const unix_diag_msg& message, uint64_t cookie) {
  return cookie_of(message.udiag_cookie) == cookie ? Found::kYes : Found::kNo;
}
template <>
Found look(const xdp_diag_msg& message, uint64_t cookie) {
  return cookie_of(message.xdiag_cookie) == cookie ? Found::kYes : Found::kNo;
}

/// Goes through the answers to a dump request.
template <class Message, class Request>
Found ask(const Question& question, const Request& request, uint64_t cookie) {
  struct {
    nlmsghdr header;
    Request request;
  } message = {{.nlmsg_len = sizeof message,
                .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                .nlmsg_seq = 0,
                .nlmsg_pid = 0},
               request};
  if (::send(question.fd(), &message, sizeof message, 0) < 0) return Found::kUnknown;
  Found found = Found::kNo;
  constexpr size_t kBuffer = 32768;
  const auto buffer = std::make_unique<uint64_t[]>(kBuffer / sizeof(uint64_t));
  for (;;) {
    const ssize_t got = ::recv(question.fd(), buffer.get(), kBuffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Found::kUnknown;
    auto left = static_cast<uint32_t>(got);
    for (auto* header = reinterpret_cast<const nlmsghdr*>(buffer.get()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return found;
      if (header->nlmsg_type == NLMSG_ERROR) return Found::kUnknown;
      Message one{};
      if (header->nlmsg_len < NLMSG_LENGTH(sizeof one)) continue;
      std::memcpy(&one, NLMSG_DATA(header), sizeof one);
      if (const Found here = look(one, cookie); here != Found::kNo) found = here;
    }
  }
}

Found find_inet(const Question& question, uint8_t protocol, uint64_t cookie) {
  for (const uint8_t family : {uint8_t{AF_INET}, uint8_t{AF_INET6}}) {
    inet_diag_req_v2 request{};
    request.sdiag_family = family;
    request.sdiag_protocol = protocol;
    request.idiag_states = UINT32_MAX;
    if (const Found found = ask<inet_diag_msg>(question, request, cookie); found != Found::kNo) return found;
  }
  return Found::kNo;
}

Found find_unix(const Question& question, uint64_t cookie) {
  unix_diag_req request{};
  request.sdiag_family = AF_UNIX;
  request.udiag_states = UINT32_MAX;
  return ask<unix_diag_msg>(question, request, cookie);
}

Found find_xdp(const Question& question, uint64_t cookie) {
  xdp_diag_req request{};
  request.sdiag_family = AF_XDP;
  return ask<xdp_diag_msg>(question, request, cookie);
}

constexpr uint32_t kCgroup2Magic = 0x63677270;

/// Where the unified hierarchy is mounted; empty: nowhere that this process sees.
std::string cgroup_mount() {
  const auto is_cgroup2 = [](const char* path) {
    struct statfs info {};
    return ::statfs(path, &info) == 0 && static_cast<uint32_t>(info.f_type) == kCgroup2Magic;
  };
  for (const char* usual : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
    if (is_cgroup2(usual)) return usual;
  std::FILE* const mounts = std::fopen("/proc/self/mounts", "re");
  if (mounts == nullptr) return "";
  std::string found;
  char path[512], type[64];
  while (found.empty() && std::fscanf(mounts, "%*s %511s %63s%*[^\n]", path, type) == 2)
    if (std::strcmp(type, "cgroup2") == 0) found = path;
  std::fclose(mounts);
  return found;
}

/// Where the unified hierarchy is mounted, asked once.
const std::string& known_cgroup_mount() {
  static const std::string mount = cgroup_mount();
  return mount;
}

/// The thread's cgroup, a path below the mount; none: it is in none.
std::optional<std::string> cgroup_path_of(pid_t thread) {
  const std::string directory = thread == 0 ? "/proc/thread-self" : "/proc/" + std::to_string(thread);
  std::FILE* const file = std::fopen((directory + "/cgroup").c_str(), "re");
  if (file == nullptr) return std::nullopt;
  std::optional<std::string> path;
  char line[4096];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strncmp(line, "0::", 3) != 0) continue;
    path = line + 3;
    if (!path->empty() && path->back() == '\n') path->pop_back();
  }
  std::fclose(file);
  return path;
}

}  // namespace

bool device_exists(uint32_t ifindex) {
  const Question question(AF_UNIX, SOCK_DGRAM, 0);
  if (question.fd() < 0) return true;
  ifreq request{};
  request.ifr_ifindex = static_cast<int>(ifindex);
  return ::ioctl(question.fd(), SIOCGIFNAME, &request) == 0 || errno != ENODEV;
}

bool socket_exists(uint64_t cookie, uint32_t families) {
  const Question question(AF_NETLINK, SOCK_DGRAM, NETLINK_SOCK_DIAG);
  if (question.fd() < 0) return true;
  bool unknown = false;
  for (const uint32_t family : {kTcpSockets, kUdpSockets, kUnixSockets, kXdpSockets}) {
    if ((families & family) == 0) continue;
    const Found found = family == kTcpSockets    ? find_inet(question, IPPROTO_TCP, cookie)
                        : family == kUdpSockets  ? find_inet(question, IPPROTO_UDP, cookie)
                        : family == kUnixSockets ? find_unix(question, cookie)
                                                 : find_xdp(question, cookie);
    if (found == Found::kYes || found == Found::kDead) return found == Found::kYes;
    unknown |= found == Found::kUnknown;
  }
  return unknown;
}

namespace {

/// The ids of the directory and of those above it, from the mount on.
std::vector<uint64_t> ids_on_the_way(const std::string& whole) {
  const std::string& mount = known_cgroup_mount();
  std::vector<uint64_t> ids;
  // Each prefix that ends before a slash, from the mount itself on.
  for (size_t end = mount.size(); end != std::string::npos; end = whole.find('/', end + 1)) {
    struct stat info {};
    if (::stat(whole.substr(0, end).c_str(), &info) == 0) ids.push_back(info.st_ino);
  }
  if (struct stat info{}; whole.size() > mount.size() && ::stat(whole.c_str(), &info) == 0) ids.push_back(info.st_ino);
  return ids;
}

}  // namespace

std::vector<uint64_t> cgroups_of(pid_t thread) {
  const std::string& mount = known_cgroup_mount();
  const std::optional<std::string> path = mount.empty() ? std::nullopt : cgroup_path_of(thread);
  if (!path) return {};
  return ids_on_the_way(*path == "/" ? mount : mount + *path);
}

std::optional<FoundCgroup> find_cgroup(uint64_t id) {
  const std::string& mount = known_cgroup_mount();
  struct stat root {};
  if (mount.empty() || ::stat(mount.c_str(), &root) != 0) return std::nullopt;
  if (root.st_ino == id) return FoundCgroup{.path = mount, .device = root.st_dev, .ids = {id}};
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(mount, error), end; !error && at != end; at.increment(error)) {
    struct stat info {};
    std::error_code ignored;
    if (!at->is_directory(ignored) || ::stat(at->path().c_str(), &info) != 0 || info.st_ino != id) continue;
    return FoundCgroup{.path = at->path(), .device = info.st_dev, .ids = ids_on_the_way(at->path())};
  }
  return std::nullopt;
}

pid_t process_of(pid_t thread) {
  std::FILE* const file = std::fopen(("/proc/" + std::to_string(thread) + "/status").c_str(), "re");
  if (file == nullptr) return 0;
  char line[256];
  int process = 0;
  while (process == 0 && std::fgets(line, sizeof line, file) != nullptr) std::sscanf(line, "Tgid: %d", &process);
  std::fclose(file);
  return process;
}

}  // namespace skep
