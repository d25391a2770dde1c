// SPDX-License-Identifier: Apache-2.0
#include "suite.h"

#include <algorithm>
#include <cstdio>

namespace skep::bench {

void Suite::add(std::string subject, Measure measure) { sources_.push_back({std::move(subject), std::move(measure)}); }

void Suite::run(int rounds) {
  for (int round = 0; round <= rounds; ++round) {
    std::fprintf(stderr, round == 0 ? "warming up\n" : "round %d of %d\n", round, rounds);
    for (const Source& source : sources_) {
      const std::vector<Figure> figures = source.measure();
      if (round == 0) continue;
      for (const Figure& figure : figures) record(source.subject, figure);
    }
  }
}

void Suite::record(const std::string& subject, const Figure& figure) {
  const Row row{figure.what, figure.entries, figure.threads};
  if (!series_.contains(row)) rows_.push_back(row);
  std::vector<Series>& all = series_[row];
  auto series = std::ranges::find(all, subject, &Series::subject);
  if (series == all.end()) series = all.insert(all.end(), Series{subject, {}});
  series->values.push_back(figure.value);
}

std::vector<std::pair<std::string, double>> Suite::medians(const Row& row) const {
  std::vector<std::pair<std::string, double>> result;
  const auto found = series_.find(row);
  if (found == series_.end()) return result;
  for (const Series& series : found->second) {
    std::vector<double> sorted = series.values;
    std::ranges::sort(sorted);
    result.emplace_back(series.subject, sorted[sorted.size() / 2]);
  }
  return result;
}

double Suite::median(const Row& row, const std::string& subject) const {
  for (const auto& [name, value] : medians(row)) {
    if (name == subject) return value;
  }
  return 0;
}

}  // namespace skep::bench
