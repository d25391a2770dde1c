// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string_view>

#include "cli/command.h"

namespace skep::cli {
namespace {

constexpr const char* kUsage =
    "usage: skep run [--instance DIR] [--] CMD [ARGUMENT...]\n"
    "       skep ls | check [ID] | clean\n"
    "       skep help | version\n";

constexpr const char* kHelp =
    "\n"
    "  run      starts CMD so that its bpf(2), and that of its children, is skep's\n"
    "  ls       lists the objects of the instance\n"
    "  check    checks the invariants of the instance's maps, or of map ID; exits with 1 if one does not hold\n"
    "  clean    removes what nobody holds any more, and the instance itself when nothing is left in it\n"
    "\n"
    "The instance is DIR, else the directory that SKEP_DIR names, else /dev/shm/skep-UID.\n"
    "`skep run` exits with the status of CMD; 127: there is no CMD, 126: it cannot be executed,\n"
    "125: libskep-preload.so is missing, 2: the command line makes no sense.\n";

struct Command {
  std::string_view name;
  int (*function)(Arguments arguments);
};

int help(Arguments) {
  std::printf("%s%s", kUsage, kHelp);
  return 0;
}

int version(Arguments) {
  std::puts("skep " SKEP_VERSION);
  return 0;
}

constexpr Command kCommands[] = {
    {"run", run},   {"ls", list},     {"check", check},     {"clean", clean},
    {"help", help}, {"--help", help}, {"version", version}, {"--version", version},
};

}  // namespace

int usage_error(const char* problem, const char* argument) {
  std::fprintf(stderr, "skep: %s%s%s\n%s", problem, argument != nullptr ? " " : "", argument != nullptr ? argument : "",
               kUsage);
  return kUsageError;
}

}  // namespace skep::cli

int main(int argc, char** argv) {
  using namespace skep::cli;
  if (argc < 2) return usage_error("a command is missing");
  for (const Command& command : kCommands) {
    if (command.name == argv[1]) return command.function(Arguments(argv + 2, static_cast<size_t>(argc - 2)));
  }
  return usage_error("there is no command", argv[1]);
}
