// SPDX-License-Identifier: Apache-2.0
#include "report.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <optional>

namespace skep::bench {

namespace {

struct Verdict {
  double ratio;
  bool met;
  std::string text;  // "4.6x (>= 3.0x)"
};

std::string format(const char* pattern, double first, double second) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, first, second);
  return text;
}

std::optional<Verdict> judge(const Suite& suite, const Target& target, const Row& row) {
  const bool scaling = target.kind == Target::Kind::kScaling;
  if (target.what != row.what || row.entries < target.minimum_entries || row.entries > target.maximum_entries ||
      (scaling && row.threads != 2)) {
    return std::nullopt;
  }
  const double skep = suite.median(row, "skep");
  const Row one_thread{row.what, row.entries, 1};
  const double reference = scaling ? suite.median(one_thread, "skep") : suite.median(row, target.reference);
  if (skep <= 0 || (reference <= 0 && target.kind != Target::Kind::kAbsolute)) return std::nullopt;
  switch (target.kind) {
    case Target::Kind::kTimesFaster: {
      const double ratio = reference / skep;
      return Verdict{ratio, ratio >= target.bound, format("%.1fx faster (>= %.1fx)", ratio, target.bound)};
    }
    case Target::Kind::kShareOfTime: {
      const double ratio = skep / reference;
      return Verdict{
          ratio, ratio <= target.bound,
          format("%.2fx the time of ", ratio, 0) + target.reference + format(" (<= %.2fx)", target.bound, 0)};
    }
    case Target::Kind::kNotMore: {
      const double ratio = skep / reference;
      return Verdict{ratio, ratio <= target.bound, format("%.3f of ", ratio, 0) + target.reference + "'s"};
    }
    case Target::Kind::kScaling: {
      const double ratio = 2 * reference / skep;
      return Verdict{ratio, ratio >= target.bound, format("%.2fx one thread's rate (>= %.2fx)", ratio, target.bound)};
    }
    case Target::Kind::kAbsolute:
      return Verdict{skep, skep <= target.bound, format("%.1f (<= %.0f)", skep, target.bound)};
  }
  return std::nullopt;
}

std::string entries_text(uint64_t entries) {
  if (entries == 0) return "";
  if (entries % (1 << 20) == 0) return std::to_string(entries >> 20) + " Mi";
  if (entries % (1 << 10) == 0) return std::to_string(entries >> 10) + " Ki";
  return std::to_string(entries);
}

}  // namespace

void print_table(const Suite& suite) {
  std::printf("\nnanoseconds per operation and thread (medians)\n\n");
  int met = 0;
  int missed = 0;
  for (const Row& row : suite.rows()) {
    std::printf("%-40s %6s %dT ", row.what.c_str(), entries_text(row.entries).c_str(), row.threads);
    for (const auto& [subject, value] : suite.medians(row)) std::printf("  %s %.1f", subject.c_str(), value);
    std::printf("\n");
    for (const Target& target : suite.targets()) {
      const std::optional<Verdict> verdict = judge(suite, target, row);
      if (!verdict) continue;
      std::printf("%-40s            %s: %s\n", "", verdict->met ? "met" : "MISSED", verdict->text.c_str());
      ++(verdict->met ? met : missed);
    }
  }
  std::printf("\n%d targets met, %d missed\n", met, missed);
}

bool write_json(const Suite& suite, const std::string& path) {
  FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return false;
  utsname machine{};
  uname(&machine);
  std::fprintf(file, "{\n  \"kernel\": \"%s\",\n  \"cpus\": %ld,\n  \"rows\": [", machine.release,
               sysconf(_SC_NPROCESSORS_ONLN));
  const char* separator = "\n";
  for (const Row& row : suite.rows()) {
    std::fprintf(file, "%s    {\"what\": \"%s\", \"entries\": %llu, \"threads\": %d, \"medians\": {", separator,
                 row.what.c_str(), static_cast<unsigned long long>(row.entries), row.threads);
    const char* comma = "";
    for (const auto& [subject, value] : suite.medians(row)) {
      std::fprintf(file, "%s\"%s\": %.3f", comma, subject.c_str(), value);
      comma = ", ";
    }
    std::fprintf(file, "}, \"targets\": [");
    comma = "";
    for (const Target& target : suite.targets()) {
      const std::optional<Verdict> verdict = judge(suite, target, row);
      if (!verdict) continue;
      std::fprintf(file, "%s{\"ratio\": %.3f, \"met\": %s, \"text\": \"%s\"}", comma, verdict->ratio,
                   verdict->met ? "true" : "false", verdict->text.c_str());
      comma = ", ";
    }
    std::fprintf(file, "]}");
    separator = ",\n";
  }
  std::fprintf(file, "\n  ]\n}\n");
  return std::fclose(file) == 0;
}

}  // namespace skep::bench
