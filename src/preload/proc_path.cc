// SPDX-License-Identifier: Apache-2.0
#include "preload/proc_path.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <string_view>

#include "preload/client_path.h"
#include "preload/real.h"
#include "preload/runtime.h"
#include "preload/text_file.h"
#include "syscall/fdinfo.h"

namespace skep::preload {
namespace {

/// A descriptor of the library's own, closed without telling the table.
class OwnDescriptor {
 public:
  explicit OwnDescriptor(int fd) : fd_(fd) {}
  OwnDescriptor(const OwnDescriptor&) = delete;
  OwnDescriptor& operator=(const OwnDescriptor&) = delete;
  ~OwnDescriptor() {
    if (fd_ >= 0) real::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// A decimal number at the beginning, followed by `end`.
bool take_number(std::string_view& text, int& number, std::string_view end) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || number < 0) return false;
  text.remove_prefix(static_cast<size_t>(stop - text.data()));
  return take_prefix(text, end);
}

std::string link_of(const ProcPath& path) {
  const std::string process = path.process == 0 ? "self" : std::to_string(path.process);
  return "/proc/" + process + "/fd/" + std::to_string(path.fd);
}

/// A fresh description of the object behind a descriptor of this or another process; -1: no object of the instance.
/// Nothing but regular files of the instance is ever opened.
int open_object(const ProcPath& path) {
  const Places* places = find_places();
  if (places == nullptr) return -1;
  const std::string link = link_of(path);
  char target[PATH_MAX];
  const ssize_t length = real::readlink(link.c_str(), target, sizeof(target));
  if (length <= 0) return -1;
  const std::string_view file(target, static_cast<size_t>(length));
  if (!file.starts_with(places->directory) || !file.substr(places->directory.size()).starts_with('/')) return -1;
  struct stat status = {};
  if (real::stat(link.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return -1;
  return real::open(link.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

std::string read_all(const char* path) {
  std::string text;
  const OwnDescriptor file(real::open(path, O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return text;
  char buffer[4096];
  for (ssize_t count; (count = read(file.get(), buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(count));
  }
  return text;
}

/// What the path says on the kernel; empty: the real file is right.
std::string proc_text(const ProcPath& path) {
  if (path.what == ProcPath::What::kMounts) {
    std::string mounts = read_all("/proc/self/mounts");
    return mounts.empty() ? mounts : with_bpffs_mount(std::move(mounts));
  }
  if (path.what != ProcPath::What::kDescriptorInfo) return {};
  const OwnDescriptor object(open_object(path));
  if (object.get() < 0 || start() == nullptr) return {};
  return fdinfo_text(path.process == 0 ? path.fd : object.get());
}

}  // namespace

ProcPath ProcPath::parse(const char* path) {
  ProcPath result;
  if (path == nullptr || path[0] != '/') return result;
  std::string_view rest(path);
  if (take_prefix(rest, "/dev/fd/")) {
    if (take_number(rest, result.fd, "") && rest.empty()) result.what = What::kDescriptorLink;
    return result;
  }
  if (rest == "/etc/mtab") {
    result.what = What::kMounts;
    return result;
  }
  if (!take_prefix(rest, "/proc/")) return result;
  if (rest == "mounts") {
    result.what = What::kMounts;
    return result;
  }
  if (!take_prefix(rest, "self/") && !take_prefix(rest, "thread-self/") && !take_number(rest, result.process, "/")) {
    return result;
  }
  if (rest == "mounts" && (result.process == 0 || result.process == getpid())) {
    result.what = What::kMounts;
    return result;
  }
  What what = What::kOther;
  if (take_prefix(rest, "fd/")) what = What::kDescriptorLink;
  if (take_prefix(rest, "fdinfo/")) what = What::kDescriptorInfo;
  if (what == What::kOther || !take_number(rest, result.fd, "") || !rest.empty()) return result;
  if (result.process == getpid()) result.process = 0;
  result.what = what;
  return result;
}

const char* descriptor_name(const ProcPath& path) {
  const int saved_errno = errno;
  const char* name = nullptr;
  const OwnDescriptor object(open_object(path));
  const auto header = object.get() < 0 ? fail(EINVAL) : read_file_header(object.get());
  if (header) {
    switch (header->kind) {
      case ObjectKind::kMap:
        name = "anon_inode:bpf-map";
        break;
      case ObjectKind::kProgram:
        name = "anon_inode:bpf-prog";
        break;
      case ObjectKind::kBtf:
        name = "anon_inode:btf";
        break;
      case ObjectKind::kLink:
        name = "anon_inode:bpf-link";
        break;
      case ObjectKind::kPerfEvent:
        name = "anon_inode:[perf_event]";
        break;
      case ObjectKind::kMachine:
      case ObjectKind::kOwners:
        break;
    }
  }
  errno = saved_errno;
  return name;
}

std::string with_bpffs_mount(std::string mounts) {
  const std::string mount_point = " " + std::string(kBpffs) + " bpf ";
  if (mounts.find(mount_point) != std::string::npos) return mounts;
  return mounts + "bpf" + mount_point + "rw,nosuid,nodev,noexec,relatime,mode=700 0 0\n";
}

std::optional<int> open_proc_text(const ProcPath& path, int flags) {
  if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_PATH) != 0) return std::nullopt;
  const int saved_errno = errno;
  std::optional<int> result;
  const std::string text = proc_text(path);
  if (!text.empty()) {
    if (const int fd = open_text(text, flags); fd >= 0) result = fd;
  }
  errno = saved_errno;
  return result;
}

FILE* open_proc_stream(const ProcPath& path, const char* mode) {
  if (mode[0] != 'r') return nullptr;
  const auto fd = open_proc_text(path, O_RDONLY | (std::string_view(mode).contains('e') ? O_CLOEXEC : 0));
  if (!fd) return nullptr;
  FILE* stream = fdopen(*fd, "r");
  if (stream == nullptr) real::close(*fd);
  return stream;
}

}  // namespace skep::preload
