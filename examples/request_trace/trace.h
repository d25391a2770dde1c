// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/skep.hpp>

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>

#include "programs.h"

/// The BPF programs and what they keep. Any thread.
class Trace {
 public:
  /// Loads the programs into the instance that `skep run` has chosen. A sentence where that fails.
  static std::expected<std::unique_ptr<Trace>, std::string> load();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  [[nodiscard]] const skep::Instance& instance() const { return instance_; }

  /// The calling thread begins, and ends, a request of that connection.
  void begin(skep::OwnerReference connection) const;
  void end(skep::OwnerReference connection, uint64_t bytes) const;

  /// What a connection's requests took so far.
  [[nodiscard]] totals of_connection(const skep::Owner& connection) const;
  /// The same of the calling thread, and of the process's cgroup: the sum over all that there are.
  [[nodiscard]] totals of_current_task() const;
  [[nodiscard]] totals of_cgroups() const;
  /// Requests by the logarithm of their latency.
  [[nodiscard]] uint64_t latencies(uint32_t log2) const;
  [[nodiscard]] uint64_t answered_bytes() const { return programs_.answered_bytes(); }
  /// How many connections have totals.
  [[nodiscard]] uint64_t known_connections() const;

 private:
  Trace(skep::Instance instance, Programs programs) : instance_(std::move(instance)), programs_(std::move(programs)) {}
  std::optional<std::string> open_maps();

  skep::Instance instance_;
  Programs programs_;
  std::optional<skep::TaskStorage<totals>> tasks_;
  std::optional<skep::ObjectStorage<totals>> connections_;
  std::optional<skep::CgroupStorage<totals>> cgroups_;
  std::optional<skep::Array<uint64_t>> latencies_;
};
