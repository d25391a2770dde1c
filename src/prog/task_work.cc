// SPDX-License-Identifier: Apache-2.0
#include "prog/task_work.h"

#include <array>
#include <cerrno>
#include <utility>

#include "machine/lease.h"
#include "prog/decode.h"
#include "prog/program_references.h"

namespace skep {
namespace {

constexpr uint32_t kMostKeySize = 512;  // what a hash map allows

std::atomic<uint32_t> the_serial{0};

}  // namespace

int64_t TaskWork::schedule(Item item, Machine& machine, const RunEnvironment& environment) {
  uint64_t seen = item.field->load(std::memory_order_acquire);
  const ProcessTag owner{static_cast<uint32_t>(seen >> 32)};
  if (seen != 0 && (owner == machine.self() || machine.alive(owner))) return -EBUSY;
  if (environment.references != nullptr && !environment.references->has_users(item.map->id)) return -EBUSY;
  const uint32_t serial = the_serial.fetch_add(1, std::memory_order_relaxed);
  item.word = uint64_t{machine.self().value} << 32 | serial;
  if (!item.field->compare_exchange_strong(seen, item.word, std::memory_order_acq_rel)) return -EBUSY;
  items_.push_back(std::move(item));
  return 0;
}

void TaskWork::run_all(Runner& runner, Machine& machine, const RunEnvironment& environment) {
  while (!items_.empty()) run_round(runner, machine, environment);
}

void TaskWork::run_round(Runner& runner, Machine& machine, const RunEnvironment& environment) {
  for (const Item& item : std::exchange(items_, {})) run_one(item, runner, machine, environment);
}

void TaskWork::run_one(const Item& item, Runner& runner, Machine& machine, const RunEnvironment& environment) {
  const Lease lease(machine, current_cpu(machine));
  std::array<std::byte, kMostKeySize> key;
  if (item.field->load(std::memory_order_acquire) != item.word || item.map->key_size > key.size() ||
      !item.map->map->copy_key(item.value, key.data())) {
    return;  // the value has gone
  }
  // A callback that breaks a rule stops; there is nobody to tell.
  (void)runner.call_back(*item.code, item.function, *item.map, key.data(), item.value, lease, environment);
  uint64_t word = item.word;
  item.field->compare_exchange_strong(word, 0, std::memory_order_release, std::memory_order_relaxed);
}

}  // namespace skep
