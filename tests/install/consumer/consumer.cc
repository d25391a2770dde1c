// SPDX-License-Identifier: Apache-2.0
#include <skep/skep.hpp>

#include <cstdint>
#include <iostream>

int main() {
  const auto instance = skep::Instance::open();
  if (!instance) {
    std::cerr << instance.error().message << "\n";
    return 1;
  }
  auto map = skep::HashMap<uint64_t, uint64_t>::create(*instance, {.name = "squares", .max_entries = 100});
  if (!map || !map->pin("/sys/fs/bpf/squares")) {
    std::cerr << "cannot make the map\n";
    return 1;
  }
  for (uint64_t i = 0; i < 100; ++i) {
    if (!map->insert(i, i * i)) return 1;
  }
  uint64_t sum = 0;
  for (const auto& [key, value] : map->entries()) sum += value;
  return sum == 328350 && map->get(9) == 81 ? 0 : 1;
}
