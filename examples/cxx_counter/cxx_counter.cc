// SPDX-License-Identifier: Apache-2.0
//
// Counts the lines of its standard input in a map that any number of processes share:
//
//   tail -f access.log | awk '{print $1}' | cxx_counter visitors &     (as many of these as there are logs)
//   cxx_counter visitors --top 10                                      (at any time, from anywhere)
//   skep run -- bpftool map dump name visitors                         (it is a map like any other)
//   rm ${SKEP_DIR:-/dev/shm/skep-$UID}/pins/visitors                   (the end of it)
//
// The map is bounded: when it is full, new lines are counted under "(other)". A counter that is killed loses nothing
// that it has counted.
#include <skep/skep.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

namespace {

// Keys are compared as bytes, so the text is cut to a fixed size and padded with zeros.
struct Line {
  char text[40] = {};
  explicit Line(std::string_view from) { from.copy(text, sizeof(text) - 1); }
  Line() = default;
};
using Counts = skep::HashMap<Line, uint64_t>;

constexpr uint32_t kMostLines = 65536;

// The map that is pinned under `name`, or a new one. Of two processes that make it at once, one wins the pin.
skep::Expected<Counts> open_counts(const skep::Instance& instance, const std::string& name) {
  const std::string pin = "/sys/fs/bpf/" + name;
  for (;;) {
    auto counts = Counts::open_pin(instance, pin);
    if (counts || counts.error().code != ENOENT) return counts;
    counts = Counts::create(instance, {.name = std::string_view(name).substr(0, 15), .max_entries = kMostLines});
    if (!counts) return counts;
    // The room for "(other)" is taken while there is room.
    if (auto other = counts->insert(Line("(other)"), 0); !other) return std::unexpected(other.error());
    const auto pinned = counts->pin(pin);
    if (pinned) return counts;
    if (pinned.error().code != EEXIST) return std::unexpected(pinned.error());
  }
}

int count_lines(Counts& counts) {
  const auto increment = [](uint64_t& count) { ++count; };
  for (std::string line; std::getline(std::cin, line);) {
    auto counted = counts.update_or_insert(Line(line), 1, increment);
    if (!counted && counted.error().code == E2BIG) counted = counts.update_or_insert(Line("(other)"), 1, increment);
    if (!counted) {
      std::cerr << "cxx_counter: " << counted.error().message << "\n";
      return 1;
    }
  }
  return 0;
}

void print_top(const Counts& counts, size_t how_many) {
  std::vector<std::pair<uint64_t, std::string>> lines;
  for (const auto& [line, count] : counts.entries()) {
    if (count > 0) lines.emplace_back(count, std::string(line.text, strnlen(line.text, sizeof(line.text))));
  }
  how_many = std::min(how_many, lines.size());
  std::partial_sort(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(how_many), lines.end(),
                    [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a < b; });
  for (size_t i = 0; i < how_many; ++i) std::cout << lines[i].first << "\t" << lines[i].second << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  size_t top = 10;
  const bool counting = arguments.size() == 1;
  const bool printing = (arguments.size() == 2 || arguments.size() == 3) && arguments[1] == "--top";
  if (arguments.size() == 3) {
    const auto& text = arguments[2];
    if (std::from_chars(text.data(), text.data() + text.size(), top).ec != std::errc()) top = 0;
  }
  if ((!counting && !printing) || top == 0) {
    std::cerr << "usage: cxx_counter NAME < lines\n       cxx_counter NAME --top [N]\n";
    return 2;
  }
  const auto instance = skep::Instance::open();
  if (!instance) {
    std::cerr << "cxx_counter: " << instance.error().message << "\n";
    return 1;
  }
  auto counts = open_counts(*instance, arguments[0]);
  if (!counts) {
    std::cerr << "cxx_counter: " << counts.error().message << "\n";
    return 1;
  }
  if (counting) return count_lines(*counts);
  print_top(*counts, top);
  return 0;
}
