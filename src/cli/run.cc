// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

#include "cli/command.h"
#include "cli/linkage.h"
#include "object/instance.h"

namespace skep::cli {
namespace {

constexpr const char* kLibrary = "libskep-preload.so";
constexpr int kIncomplete = 125;
constexpr int kCannotExecute = 126;
constexpr int kNotFound = 127;

/// The preload library of this installation or build tree; "" if it is not there.
std::string find_library() {
  std::error_code error;
  const auto program = std::filesystem::canonical("/proc/self/exe", error);
  if (error) return "";
  const auto prefix = program.parent_path().parent_path();
  for (const char* directory : {"lib", SKEP_LIBDIR}) {
    const auto library = prefix / directory / kLibrary;
    if (std::filesystem::exists(library, error)) return library;
  }
  return "";
}

/// Puts the library in front of whatever is preloaded already.
void preload(const std::string& library) {
  const char* others = getenv("LD_PRELOAD");
  std::string value = library;
  if (others != nullptr && *others != '\0') {
    if (std::string_view(others).contains(library)) return;
    value += ":";
    value += others;
  }
  setenv("LD_PRELOAD", value.c_str(), 1);
}

}  // namespace

int run(Arguments arguments) {
  std::string directory = Instance::default_directory();
  size_t next = 0;
  for (; next < arguments.size() && arguments[next][0] == '-'; ++next) {
    const std::string_view option = arguments[next];
    if (option == "--") {
      ++next;
      break;
    }
    if (option != "--instance") return usage_error("run does not know", arguments[next]);
    if (++next == arguments.size()) return usage_error("--instance needs a directory");
    directory = arguments[next];
  }
  if (next == arguments.size()) return usage_error("run needs a command");
  if (directory.empty()) return usage_error("--instance needs a directory");

  const std::string library = find_library();
  if (library.empty() || library.find_first_of(" :") != std::string::npos) {
    std::fprintf(stderr,
                 library.empty() ? "skep: %s is not beside this program\n"
                                 : "skep: %s: its path has a space or a colon, which LD_PRELOAD cannot name\n",
                 library.empty() ? kLibrary : library.c_str());
    return kIncomplete;
  }
  preload(library);
  setenv("SKEP_DIR", std::filesystem::absolute(directory).c_str(), 1);
  char** command = arguments.data() + next;
  if (is_static_program(find_executable(command[0]))) {
    std::fprintf(stderr, "skep: %s is statically linked: its own bpf(2) is the kernel's\n", command[0]);
  }
  execvp(command[0], command);
  const int error = errno;
  std::fprintf(stderr, "skep: %s: %s\n", command[0], std::strerror(error));
  return error == ENOENT ? kNotFound : kCannotExecute;
}

}  // namespace skep::cli
