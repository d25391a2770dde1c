// SPDX-License-Identifier: Apache-2.0
#include "trace.h"

#include <algorithm>
#include <utility>

namespace {

/// The map that the programs use, as an object of the C++ face. Empty, or a sentence: it is not there.
template <class Map>
std::optional<std::string> open_map(const skep::Instance& instance, uint32_t id, std::optional<Map>& opened) {
  auto found = Map::open_id(instance, id, skep::Access::kReadOnly);
  if (!found) {
    return "the maps are not skep's (start the server by `skep run`): " + found.error().message;
  }
  opened.emplace(std::move(*found));
  return std::nullopt;
}

/// A copy of what programs go on changing.
totals copy(const totals& from) {
  const auto load = [](const uint64_t& word) { return __atomic_load_n(&word, __ATOMIC_RELAXED); };
  const auto word = [&](const __u64& member) { return load(reinterpret_cast<const uint64_t&>(member)); };
  return {.requests = word(from.requests), .latency = word(from.latency), .slowest = word(from.slowest)};
}

}  // namespace

std::expected<std::unique_ptr<Trace>, std::string> Trace::load() {
  auto instance = skep::Instance::open();
  if (!instance) return std::unexpected(instance.error().message);
  auto programs = Programs::load();
  if (!programs) return std::unexpected(programs.error());
  std::unique_ptr<Trace> trace(new Trace(std::move(*instance), std::move(*programs)));
  if (auto problem = trace->open_maps()) return std::unexpected(*problem);
  return trace;
}

std::optional<std::string> Trace::open_maps() {
  const Programs::MapIds& maps = programs_.maps();
  if (auto problem = open_map(instance_, maps.tasks, tasks_)) return problem;
  if (auto problem = open_map(instance_, maps.connections, connections_)) return problem;
  if (auto problem = open_map(instance_, maps.cgroups, cgroups_)) return problem;
  return open_map(instance_, maps.latencies, latencies_);
}

void Trace::begin(skep::OwnerReference connection) const {
  programs_.begin({.connection = connection.value, .bytes = 0});
}

void Trace::end(skep::OwnerReference connection, uint64_t bytes) const {
  programs_.end({.connection = connection.value, .bytes = bytes});
}

totals Trace::of_connection(const skep::Owner& connection) const {
  const skep::Guard guard(*connections_);
  const auto found = connections_->find(guard, connection);
  return found ? copy(*found) : totals{};
}

totals Trace::of_current_task() const {
  const skep::Guard guard(*tasks_);
  const auto found = tasks_->find(guard, skep::current_task);
  return found ? copy(*found) : totals{};
}

totals Trace::of_cgroups() const {
  totals sum{};
  (void)cgroups_->for_each([&](const skep::StorageOwner&, const totals& one) {
    const totals part = copy(one);
    sum.requests += part.requests;
    sum.latency += part.latency;
    sum.slowest = std::max(sum.slowest, part.slowest);
  });
  return sum;
}

uint64_t Trace::latencies(uint32_t log2) const { return latencies_->get(log2).value_or(0); }

uint64_t Trace::known_connections() const {
  return connections_->for_each([](const skep::StorageOwner&, const totals&) {}).value_or(0);
}
