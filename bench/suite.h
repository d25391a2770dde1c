// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace skep::bench {

/// What one measurement found: nanoseconds per operation and thread (bytes for the memory row).
struct Figure {
  std::string what;
  uint64_t entries = 0;
  int threads = 1;
  double value = 0;
};

/// Everything but the subject that tells measurements apart; ordered as the table is.
struct Row {
  std::string what;
  uint64_t entries;
  int threads;
  auto operator<=>(const Row&) const = default;
};

/// What a row's median is held against.
struct Target {
  enum class Kind {
    kTimesFaster,  // reference / skep is at least `bound`
    kShareOfTime,  // skep / reference is at most `bound`
    kScaling,      // throughput of two threads / one is at least `bound`
    kNotMore,      // skep / reference is at most `bound`, whatever is counted
    kAbsolute,     // skep's figure itself is at most `bound`
  };
  std::string what;
  Kind kind;
  std::string reference;  // a subject
  double bound;
  uint64_t minimum_entries = 0;
  uint64_t maximum_entries = UINT64_MAX;
};

/// Runs every subject once per round, one after the other, so that a slow minute of the machine hits all of them alike;
/// what counts is the median over the rounds.
class Suite {
 public:
  using Measure = std::function<std::vector<Figure>()>;

  /// Adds a subject's measurement. Those that are to be compared should be added next to each other.
  void add(std::string subject, Measure measure);
  void add_target(Target target) { targets_.push_back(std::move(target)); }
  /// Runs `rounds` rounds after one that only warms up.
  void run(int rounds);

  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
  [[nodiscard]] const std::vector<Target>& targets() const { return targets_; }
  /// Subjects of a row with their medians, in the order in which they were added.
  [[nodiscard]] std::vector<std::pair<std::string, double>> medians(const Row& row) const;
  /// The median of one subject, or 0 where it was not measured.
  [[nodiscard]] double median(const Row& row, const std::string& subject) const;

 private:
  struct Source {
    std::string subject;
    Measure measure;
  };
  struct Series {
    std::string subject;
    std::vector<double> values;
  };
  void record(const std::string& subject, const Figure& figure);

  std::vector<Source> sources_;
  std::vector<Target> targets_;
  std::vector<Row> rows_;
  std::map<Row, std::vector<Series>> series_;
};

}  // namespace skep::bench
