// SPDX-License-Identifier: Apache-2.0
// The benchmark: the kernel, skep and peers, interleaved in one run; medians and ratios against the targets.
#include <getopt.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "report.h"
#include "sources.h"

namespace {

constexpr char kUsage[] =
    "usage: skep-bench [--quick] [--rounds N] [--json FILE] [--only PART]...\n"
    "  --quick       fewer and shorter rounds: within two minutes\n"
    "  --rounds N    how many rounds to take the median of (default 9, quick 3)\n"
    "  --json FILE   also write the result there\n"
    "  --traces DIR  also replay the key traces *.u64 and *.u64.xz in DIR (default $SKEP_BENCH_TRACES)\n"
    "  --only PART   measure only commands, lookups, helpers, tries, memory, lru, lru-hits, queues, rings, nested,\n"
    "                timers, programs or storage\n";

struct Options {
  bool quick = false;
  int rounds = 0;
  std::string json;
  std::string traces;
  std::vector<std::string> only;
};

Options parse(int argc, char** argv) {
  static const option kNames[] = {{"quick", no_argument, nullptr, 'q'},
                                  {"rounds", required_argument, nullptr, 'r'},
                                  {"json", required_argument, nullptr, 'j'},
                                  {"traces", required_argument, nullptr, 't'},
                                  {"only", required_argument, nullptr, 'o'},
                                  {"help", no_argument, nullptr, 'h'},
                                  {nullptr, 0, nullptr, 0}};
  Options options;
  if (const char* traces = std::getenv("SKEP_BENCH_TRACES")) options.traces = traces;
  int option = 0;
  while ((option = getopt_long(argc, argv, "qr:j:t:o:h", kNames, nullptr)) != -1) {
    switch (option) {
      case 'q':
        options.quick = true;
        break;
      case 'r':
        options.rounds = std::atoi(optarg);
        break;
      case 'j':
        options.json = optarg;
        break;
      case 't':
        options.traces = optarg;
        break;
      case 'o':
        options.only.emplace_back(optarg);
        break;
      case 'h':
        std::fputs(kUsage, stdout);
        std::exit(0);
      default:
        std::fputs(kUsage, stderr);
        std::exit(2);
    }
  }
  if (options.rounds <= 0) options.rounds = options.quick ? 3 : 9;
  return options;
}

/// A directory below /dev/shm that goes when the program does.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char path[] = "/dev/shm/skep-bench.XXXXXX";
    if (mkdtemp(path) == nullptr) {
      std::perror(path);
      std::exit(1);
    }
    path_ = path;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

int main(int argc, char** argv) {
  using namespace skep::bench;
  const Options options = parse(argc, argv);
  const TemporaryDirectory instances;
  const Plan plan{.operations = options.quick ? uint64_t{100'000} : uint64_t{500'000},
                  .quick = options.quick,
                  .directory = std::filesystem::canonical("/proc/self/exe").parent_path().parent_path(),
                  .instances = instances.path(),
                  .traces = options.traces};
  const struct {
    const char* name;
    void (*add)(Suite&, const Plan&);
  } parts[] = {{"commands", add_commands}, {"lookups", add_lookups}, {"helpers", add_helpers},
               {"tries", add_tries},       {"memory", add_memory},   {"lru", add_lru_speed},
               {"lru-hits", add_lru_hits}, {"queues", add_queues},   {"rings", add_rings},
               {"nested", add_nested},     {"timers", add_timers},   {"programs", add_programs},
               {"storage", add_storage}};

  Suite suite;
  for (const auto& part : parts) {
    if (options.only.empty() || std::ranges::find(options.only, part.name) != options.only.end()) part.add(suite, plan);
  }
  suite.run(options.rounds);
  print_table(suite);
  if (!options.json.empty() && !write_json(suite, options.json)) {
    std::perror(options.json.c_str());
    return 1;
  }
  return 0;
}
