// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "request_trace.h"

struct request_trace;  // the skeleton
struct bpf_program;
struct bpf_map;

/// The BPF programs, loaded by libbpf. Any thread.
class Programs {
 public:
  struct MapIds {
    uint32_t tasks, connections, cgroups, latencies;
  };

  /// A sentence where that fails.
  static std::expected<Programs, std::string> load();

  /// Run the programs with those arguments. A failure ends the server.
  void begin(const request& arguments) const;
  void end(const request& arguments) const;

  [[nodiscard]] const MapIds& maps() const { return maps_; }
  /// What the programs have in their global variable.
  [[nodiscard]] uint64_t answered_bytes() const;

 private:
  struct Destroyer {
    void operator()(request_trace* skeleton) const;
  };
  static uint32_t id_of(const bpf_map* map);
  static void run(const bpf_program* program, request arguments);

  std::unique_ptr<request_trace, Destroyer> skeleton_;
  MapIds maps_{};
};
