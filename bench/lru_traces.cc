// SPDX-License-Identifier: Apache-2.0
#include "lru_traces.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

namespace skep::bench {
namespace {

constexpr size_t kRequests = 1'000'000;

/// Requests for 64 Ki keys, the i-th of them with a probability proportional to i to the power of -0.9.
std::vector<uint64_t> zipf() {
  constexpr size_t kKeys = 1 << 16;
  std::vector<double> below(kKeys);
  double sum = 0;
  for (size_t i = 0; i < kKeys; ++i) below[i] = sum += std::pow(static_cast<double>(i + 1), -0.9);
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform(0, sum);
  std::vector<uint64_t> keys(kRequests);
  for (auto& key : keys) {
    key = static_cast<uint64_t>(std::ranges::lower_bound(below, uniform(random)) - below.begin());
  }
  return keys;
}

/// The same, with 3000 keys that never come again after every 5000 requests.
std::vector<uint64_t> with_scans(const std::vector<uint64_t>& keys) {
  std::vector<uint64_t> mixed;
  uint64_t fresh = uint64_t{1} << 32;
  for (size_t i = 0; i < keys.size(); ++i) {
    mixed.push_back(keys[i]);
    if ((i + 1) % 5000 != 0) continue;
    for (int j = 0; j < 3000; ++j) mixed.push_back(fresh++);
  }
  return mixed;
}

std::string content_of(const std::filesystem::path& path) {
  if (path.extension() != ".xz") {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  FILE* pipe = popen(("xz -dc '" + path.string() + "'").c_str(), "r");
  if (pipe == nullptr) return {};
  std::string content;
  char part[1 << 16];
  for (size_t got = 0; (got = fread(part, 1, sizeof(part), pipe)) > 0;) content.append(part, got);
  return pclose(pipe) == 0 ? content : std::string();
}

}  // namespace

std::vector<Trace> generated_traces() {
  const std::vector<uint64_t> keys = zipf();
  return {{"Zipf 0.9", keys, {1000, 8192}}, {"Zipf 0.9 with scans", with_scans(keys), {1000, 8192}}};
}

std::vector<Trace> recorded_traces(const std::string& directory) {
  std::vector<Trace> traces;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    const size_t end = name.find(".u64");
    if (end == std::string::npos || !(name.ends_with(".u64") || name.ends_with(".u64.xz"))) continue;
    const std::string content = content_of(entry.path());
    Trace trace{name.substr(0, end), std::vector<uint64_t>(content.size() / 8), {1000, 5000, 20000}};
    std::memcpy(trace.keys.data(), content.data(), trace.keys.size() * 8);
    if (trace.keys.empty()) {
      std::fprintf(stderr, "%s cannot be read\n", entry.path().c_str());
      std::exit(1);
    }
    traces.push_back(std::move(trace));
  }
  if (error) {
    std::fprintf(stderr, "%s: %s\n", directory.c_str(), error.message().c_str());
    std::exit(1);
  }
  std::ranges::sort(traces, {}, &Trace::name);
  return traces;
}

}  // namespace skep::bench
