// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <string>

#include "maps/hash_test_support.h"
#include "maps/lpm_key.h"

namespace skep::testing {

/// A key of a trie with data of any size.
inline std::string lpm_key(uint32_t length, std::string data) {
  std::string key(4, '\0');
  std::memcpy(key.data(), &length, 4);
  return key + data;
}
inline std::string ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint32_t length) {
  return lpm_key(length, {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c), static_cast<char>(d)});
}

inline bool bit_of(const std::string& key, uint32_t i) {
  return static_cast<uint8_t>(key[4 + i / 8]) >> (7 - i % 8) & 1;
}

/// The prefix of a key as a string of '0' and '1'.
inline std::string bits_of_key(const std::string& key) {
  std::string bits;
  for (uint32_t i = 0; i < load_prefix_length(key.data()); ++i) bits += bit_of(key, i) ? '1' : '0';
  return bits;
}

/// What a trie is to do, done slowly. Prefixes are sorted in post-order: '2' behind the bits sorts the shorter last.
class LpmModel {
 public:
  struct Entry {
    std::string key, value;
  };
  std::map<std::string, Entry> entries;

  static std::string place(const std::string& key) { return bits_of_key(key) + '2'; }
  void put(const std::string& key, const std::string& value) { entries[place(key)] = {key, value}; }
  bool erase(const std::string& key) { return entries.erase(place(key)) != 0; }
  [[nodiscard]] bool contains(const std::string& key) const { return entries.contains(place(key)); }
  [[nodiscard]] const Entry* longest(const std::string& key) const {
    const std::string bits = bits_of_key(key);
    for (size_t length = bits.size() + 1; length-- > 0;) {
      const auto at = entries.find(bits.substr(0, length) + '2');
      if (at != entries.end()) return &at->second;
    }
    return nullptr;
  }
  [[nodiscard]] const Entry* next(const std::string& key) const {
    auto at = entries.find(place(key));
    at = at == entries.end() ? entries.begin() : std::next(at);
    return at == entries.end() ? nullptr : &at->second;
  }
};

/// Makes keys that share prefixes, so that a trie of them has all shapes.
class LpmKeys {
 public:
  LpmKeys(uint32_t data_size, uint64_t seed) : data_size_(data_size), random_(seed) {}

  std::string any() {
    std::string data(data_size_, '\0');
    // Runs of equal bits below some random ones: shared prefixes of all lengths.
    const auto style = random_() % 4;
    for (auto& byte : data) byte = static_cast<char>(style == 0 ? random_() : style == 1 ? random_() % 2 : 0x55);
    if (style >= 2) {
      char& byte = data[random_() % std::min<uint64_t>(data_size_, style == 2 ? 3 : data_size_)];
      byte = static_cast<char>(byte ^ 1 << random_() % 8);
    }
    return lpm_key(static_cast<uint32_t>(random_() % (data_size_ * 8 + 1)), data);
  }
  std::mt19937_64& random() { return random_; }

 private:
  uint32_t data_size_;
  std::mt19937_64 random_;
};

}  // namespace skep::testing
