// SPDX-License-Identifier: Apache-2.0
// bpf(2) commands: the same program once as it is and once with skep's preload library.
#include <unistd.h>

#include <cstdio>
#include <sstream>

#include "sources.h"

namespace skep::bench {

namespace {

/// Runs skep-bench-commands with `environment` before it, on the second CPU; reads its figures. Empty: it failed.
std::vector<Figure> run_commands(const Plan& plan, const std::string& environment) {
  const std::string command = "exec env " + environment + " taskset -c " +
                              std::to_string(sysconf(_SC_NPROCESSORS_ONLN) - 1) + " '" + plan.directory +
                              "/bin/skep-bench-commands'" + (plan.quick ? " --quick" : "");
  std::vector<Figure> figures;
  FILE* output = popen(command.c_str(), "r");
  if (output == nullptr) return figures;
  char line[256];
  while (std::fgets(line, sizeof(line), output) != nullptr) {
    std::istringstream words(line);
    Figure figure;
    if (words >> figure.entries >> figure.value && std::getline(words >> std::ws, figure.what))
      figures.push_back(figure);
  }
  pclose(output);
  return figures;
}

}  // namespace

void add_commands(Suite& suite, const Plan& plan) {
  suite.add("kernel", [&plan] { return run_commands(plan, ""); });
  suite.add("skep", [&plan] {
    return run_commands(
        plan, "SKEP_DIR='" + plan.instances + "/commands' LD_PRELOAD='" + plan.directory + "/lib/libskep-preload.so'");
  });
  for (const char* what :
       {"HASH lookup, bpf(2)", "HASH update, bpf(2)", "HASH insert and delete, bpf(2), each", "HASH next key, bpf(2)",
        "ARRAY lookup, bpf(2)", "ARRAY update, bpf(2)", "PERCPU_ARRAY lookup, bpf(2)", "PERCPU_ARRAY update, bpf(2)"}) {
    suite.add_target({what, Target::Kind::kTimesFaster, "kernel", 20});
  }
  for (const char* what : {"HASH batch lookup, bpf(2), per element", "HASH batch update, bpf(2), per element"}) {
    suite.add_target({what, Target::Kind::kTimesFaster, "kernel", 15});
  }
}

}  // namespace skep::bench
